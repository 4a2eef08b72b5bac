"""The arrows between packages and groups, as docs/architecture.md draws them, held against the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("api_utils", "browser", "contract", "coordinator", "demo")
OURS = (*PACKAGES, "benchmarks", "launch_camoufox", "openapi", "tests")

MAY_IMPORT = {
    "contract": {"contract"},
    "browser": {"contract", "browser"},
    "api_utils": {"contract", "browser", "api_utils"},
    "coordinator": {"contract", "coordinator"},
    "demo": {"demo"},
    "launch_camoufox.py": {"api_utils", "contract"},
    "openapi": {"api_utils", "contract", "coordinator", "openapi"},
}
"""Each package and what it may import. The two programs, `coordinator` and `api_utils`, share `contract` only."""

GROUPS = {
    "browser/site": {"browser.errors", "browser.site"},
    "browser/process": {"browser.errors", "browser.process", "browser.settings", "browser.timeouts"},
    "browser/capture": {
        *("browser.errors", "browser.settings", "browser.timeouts"),
        *("browser.site", "browser.capture"),
    },
    "browser/page": {
        *("browser.errors", "browser.settings", "browser.timeouts"),
        *("browser.site", "browser.process", "browser.capture", "browser.page"),
    },
    "coordinator/alerts": {
        *("coordinator.errors", "coordinator.flags", "coordinator.settings"),
        *("coordinator.proxy.pool", "coordinator.supervision", "coordinator.alerts"),
    },
    "coordinator/proxy": {"coordinator.errors", "coordinator.proxy"},
    "coordinator/supervision": {
        *("coordinator.errors", "coordinator.settings"),
        *("coordinator.fleet_file.login", "coordinator.proxy.pool", "coordinator.supervision"),
    },
    "coordinator/local": {
        *("coordinator.errors", "coordinator.settings", "coordinator.site_files"),
        *("coordinator.local", "coordinator.sessions", "coordinator.supervision"),
    },
    "coordinator/fleet_file": {"coordinator.errors", "coordinator.fleet_file", "coordinator.site_files"},
    "coordinator/profiles": {
        *("coordinator.errors", "coordinator.flags", "coordinator.settings", "coordinator.shard"),
        *("coordinator.fleet_file", "coordinator.profiles"),
    },
    "coordinator/sessions": {
        *("coordinator.errors", "coordinator.settings", "coordinator.supervision.events"),
        *("coordinator.supervision.lifecycle", "coordinator.profiles", "coordinator.sessions"),
    },
    "coordinator/claims": {
        *("coordinator.errors", "coordinator.settings", "coordinator.daemon_thread"),
        *("coordinator.profiles", "coordinator.sessions", "coordinator.supervision", "coordinator.claims"),
    },
    "coordinator/logins": {
        *("coordinator.errors", "coordinator.fleet_file.login", "coordinator.profiles"),
        *("coordinator.supervision", "coordinator.logins"),
    },
}
"""Each group inside a package and what of its own package it may import; `contract` besides."""

PURE = ("coordinator/supervision/lifecycle.py",)
NOT_PURE = {"asyncio", "os", "socket", "subprocess", "threading", "time"}


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports, wherever in it; of `from a import b` both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its arrow"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in OURS}


def files(part: str) -> list[Path]:
    found = [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py"))
    assert found, f"{part} is gone: this test checks nothing"
    return found


def is_within(name: str, allowed: set[str]) -> bool:
    """Whether a module is one of the allowed, is inside one, or is a package around one."""
    return any(name == one or name.startswith(f"{one}.") or one.startswith(f"{name}.") for one in allowed)


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_packages_import_only_what_is_below_them(part: str) -> None:
    for path in files(part):
        for name in ours(path):
            assert name.split(".")[0] in MAY_IMPORT[part], f"{path.relative_to(ROOT)} must not import {name}"


@pytest.mark.parametrize("group", GROUPS)
def test_groups_import_only_what_is_below_them(group: str) -> None:
    package = group.partition("/")[0]
    for path in files(group):
        for name in ours(path):
            fits = name.split(".")[0] != package or is_within(name, GROUPS[group])
            assert fits, f"{path.relative_to(ROOT)} must not import {name}"


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in files(package):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def test_no_module_imports_in_a_circle() -> None:
    """Imports inside functions and those for types count too: a circle that is hidden is still one."""
    known = dict(modules())
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        met = {module for module in ours(path) if module in known}
        # `from package import module` needs the module; of the package nothing but that.
        graph[name] = {module for module in met if not any(other.startswith(f"{module}.") for other in met)} - {name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


@pytest.mark.slow
def test_every_module_can_be_the_first_to_be_imported() -> None:
    """A circle at run time shows when the import begins at another end than usual."""
    names = sorted(name for name, _ in modules() if not name.endswith("__main__"))
    # Each in a process of its own, forked from one that has the costly libraries already.
    code = """
import importlib, os, sys, traceback
import aiohttp, boto3, playwright.async_api, pydantic_settings, starlette.applications, uvicorn
bad = 0
for name in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        print("cannot be imported first:", name, file=sys.stderr)
        bad = 1
sys.exit(bad)
"""
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("pure", PURE)
def test_the_state_machine_has_no_clock_and_no_io(pure: str) -> None:
    assert not {name.split(".")[0] for name in imports(ROOT / pure)} & NOT_PURE


@pytest.mark.parametrize("program", ["coordinator.main", "coordinator.profiles.__main__", "api_utils.child"])
def test_programs_start_without_what_only_tables_need(program: str) -> None:
    shows = f"import sys, {program}; print('structlog' in sys.modules, 'rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", shows], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_nothing_imports_a_main() -> None:
    for part in MAY_IMPORT:
        for path in files(part):
            assert not ours(path) & {"coordinator.main", "launch_camoufox"}, path


def test_a_child_imports_what_its_browser_needs_before_the_rest() -> None:
    """Driver and browser start while the rest is imported, and what few children need takes no memory of all others."""
    code = (
        "import sys, api_utils.child; "
        "print(*(name for name in ('starlette', 'uvicorn', 'websockets') if name in sys.modules)); "
        "import api_utils.server, browser.capture.stream_server; "
        "unused = ('aiohttp', 'bs4', 'email.policy', 'fastapi', 'pydantic_settings', 'pyrage'); "
        "print(*(name for name in unused if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n\n"

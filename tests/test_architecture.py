"""The arrows between the packages, as docs/architecture.md draws them, held against the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("api_utils", "benchmarks", "browser", "coordinator", "demo", "launch_camoufox", "tests")
MAY_IMPORT = {
    "coordinator": {"coordinator", "api_utils.auth_utils", "api_utils.logs", "api_utils.quick_start"},
    "api_utils": {"api_utils", "browser"},
    "browser": {"browser"},
    "demo": {"demo"},
    "launch_camoufox.py": {"api_utils"},
}
FACES = {"api", "fleet", "proxy", "supervisor"}
STRANGERS = {
    "coordinator/local": {*FACES, "child", "forwarding", "pool", "profiles", "supervision"},
    "coordinator/forwarding": {*FACES, "child", "local", "profiles", "supervision"},
    "coordinator/supervision": {*FACES, "forwarding", "local", "profiles"},
    "coordinator/profiles": {*FACES, "child", "forwarding", "local", "pool", "supervision"},
}
"""Parts of the coordinator, and those that each must be able to do without."""
LEAVES = (
    "coordinator/errors.py",
    "coordinator/lifecycle.py",
    "api_utils/auth_utils.py",
    "api_utils/logs.py",
    "api_utils/quick_start.py",
)
PURE = ("coordinator/lifecycle.py",)
NOT_PURE = {"asyncio", "os", "socket", "subprocess", "threading", "time"}


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its arrow"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in OURS}


def files(part: str) -> list[Path]:
    found = [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py"))
    assert found, f"{part} is gone: this test checks nothing"
    return found


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_arrows_run_one_way(part: str) -> None:
    for path in files(part):
        allowed = MAY_IMPORT[part]
        for name in ours(path):
            is_package = name == "api_utils" and "api_utils.auth_utils" in allowed
            fits = any(name == one or name.startswith(f"{one}.") for one in allowed)
            assert fits or is_package, f"{path.relative_to(ROOT)} must not import {name}"


@pytest.mark.parametrize("part", STRANGERS)
def test_parts_of_the_coordinator_keep_apart(part: str) -> None:
    for path in files(part):
        met = {name.split(".")[1] for name in ours(path) if name.startswith("coordinator.")} & STRANGERS[part]
        assert not met, f"{path.relative_to(ROOT)} must not import coordinator.{min(met)}"


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_import_nothing_of_ours(leaf: str) -> None:
    errors_only = {name for name in ours(ROOT / leaf) if name.startswith("coordinator.errors")}
    assert ours(ROOT / leaf) <= (set() if leaf.endswith("errors.py") else errors_only)


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
    """Driver and browser start while the rest is imported; fastapi and pydantic-settings are none of it."""
    code = (
        "import sys, api_utils.child; "
        "print(*(name for name in ('aiohttp', 'starlette', 'uvicorn') if name in sys.modules)); "
        "import api_utils.face, browser.streamserver; "
        "print(*(name for name in ('fastapi', 'pydantic_settings', 'bs4') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n\n"

"""The short form of `make chaos`, and that it detects the fault of a broken coordinator in the right row."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.report import MUST_BE_ZERO
from tests.support import DIES_WITH_PARENT
from tests.support.size import size

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("api_utils", "browser", "contract", "coordinator", "demo", "sites", "tests", "launch_camoufox.py")
BROKEN = {"second_submission": "submitted twice", "lease_not_released": "leaked leases"}
TRIED = tuple(BROKEN)[: size(1, 2)]
REQUESTS = size(200, 400)
LIMIT_S = 240.0

# Longer than the default: a busy machine needs a minute.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_S + 30)]


@dataclass(frozen=True)
class Run:
    """One run of the program, concurrent with the others."""

    process: subprocess.Popen[str]

    def wait(self) -> tuple[int, str]:
        """Return the exit code and the output."""
        output, _ = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, output


def start(root: Path, logs: Path, *options: str) -> Run:
    """Start a short run of the code in `root`; its log goes below `logs`."""
    command = [*DIES_WITH_PARENT, sys.executable, "-m", "tests.chaos", "--short", *options]
    environment = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(logs)}
    process = subprocess.Popen(
        command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return Run(process)


def broken_tree(folder: Path, patch: str) -> Path:
    """Copy what a run needs to a folder, and apply the patch there."""
    folder.mkdir()
    no_caches = shutil.ignore_patterns("__pycache__")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=no_caches)
        else:
            shutil.copy(ROOT / part, folder / part)
    command = ["git", "apply", str(ROOT / f"tests/chaos/broken/{patch}.patch")]
    subprocess.run(command, cwd=folder, check=True, env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)})
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Run]]:
    """Start all runs at once: they mostly wait."""
    folder = tmp_path_factory.mktemp("trees")
    started = {"sound": start(ROOT, folder, "--requests", str(REQUESTS))}
    for patch in TRIED:
        started[patch] = start(broken_tree(folder / patch, patch), folder, "--requests", "150", "--seconds", "8")
    try:
        yield started
    finally:
        for run in started.values():
            run.process.kill()
            run.process.wait()


def rows(output: str) -> dict[str, int]:
    """Return the rows of the report that must be 0, and the numbers of requests and answers."""
    found = {}
    for line in output.splitlines():
        name, _, value = line.strip().rpartition("  ")
        if name.strip() in ("requests", "answered", *MUST_BE_ZERO):
            found[name.strip()] = int(value.replace(",", ""))
    assert found.keys() >= set(MUST_BE_ZERO), f"the run printed no report:\n{output}"
    return found


def test_a_sound_fleet_survives(runs: Mapping[str, Run]) -> None:
    code, output = runs["sound"].wait()
    table = rows(output)
    assert [name for name in MUST_BE_ZERO if table[name]] == [], output
    assert code == 0, output
    assert table["requests"] == REQUESTS
    assert table["answered"] > REQUESTS // 4, output


@pytest.mark.parametrize("patch", TRIED)
def test_a_broken_fleet_fails_in_its_own_row(runs: Mapping[str, Run], patch: str) -> None:
    code, output = runs[patch].wait()
    table = rows(output)
    assert [name for name in MUST_BE_ZERO if table[name]] == [BROKEN[patch]], output
    assert code == 1


@pytest.mark.parametrize("patch", BROKEN)
def test_each_fault_can_be_put_into_the_code_of_today(patch: str) -> None:
    subprocess.run(["git", "apply", "--check", f"tests/chaos/broken/{patch}.patch"], cwd=ROOT, check=True)

"""The short form of `make chaos`; and that it fails, in the right row, for a coordinator that is broken."""

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

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("api_utils", "browser", "coordinator", "sites", "tests", "launch_camoufox.py")
BROKEN = {"second_submission": "submitted twice", "lease_not_released": "leaked leases"}
LIMIT_S = 240.0

pytestmark = pytest.mark.timeout(LIMIT_S + 30)  # more than others: a busy machine takes a minute


@dataclass(frozen=True)
class Run:
    """One run of the program, at work beside the others."""

    process: subprocess.Popen[str]

    def ended(self) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, said


def start(root: Path, logs: Path, *options: str) -> Run:
    command = [*DIES_WITH_PARENT, sys.executable, "-m", "tests.chaos", "--short", *options]
    environment = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(logs)}
    process = subprocess.Popen(
        command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return Run(process)


def broken_tree(folder: Path, patch: str) -> Path:
    """A copy of what a run needs, with the patch in it."""
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
    """All runs at once: most of their time is waiting."""
    folder = tmp_path_factory.mktemp("trees")
    started = {"sound": start(ROOT, folder)}
    for patch in BROKEN:
        started[patch] = start(broken_tree(folder / patch, patch), folder, "--requests", "150", "--seconds", "8")
    try:
        yield started
    finally:
        for run in started.values():
            run.process.kill()
            run.process.wait()


def rows(said: str) -> dict[str, int]:
    """The rows of the table that have to be 0."""
    found = {}
    for line in said.splitlines():
        name, _, value = line.strip().rpartition("  ")
        if name.strip() in ("requests", "answered", *MUST_BE_ZERO):
            found[name.strip()] = int(value.replace(",", ""))
    assert found.keys() >= set(MUST_BE_ZERO), f"the run came to no table:\n{said}"
    return found


def test_a_sound_fleet_survives(runs: Mapping[str, Run]) -> None:
    code, said = runs["sound"].ended()
    table = rows(said)
    assert [name for name in MUST_BE_ZERO if table[name]] == [], said
    assert code == 0, said
    assert table["requests"] == 400
    assert table["answered"] > 100, said


@pytest.mark.parametrize("patch", BROKEN)
def test_a_broken_fleet_fails_in_its_own_row(runs: Mapping[str, Run], patch: str) -> None:
    code, said = runs[patch].ended()
    table = rows(said)
    assert [name for name in MUST_BE_ZERO if table[name]] == [BROKEN[patch]], said
    assert code == 1

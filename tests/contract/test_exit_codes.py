"""Exit codes: what the child prints, the guide lists and the coordinator reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.exit_codes import MEANINGS, ExitCode
from coordinator.supervision.lifecycle import Reason, exit_reason

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ["--server-port", "9", "--stream-port", "9", "--active-auth-json", "none.json"]


def test_help_lists_every_code_with_its_meaning() -> None:
    command = [sys.executable, "launch_camoufox.py", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert set(MEANINGS) == set(ExitCode)
    assert shown.splitlines()[-len(MEANINGS) :] == [f"  {code:3}  {meaning}" for code, meaning in MEANINGS.items()]


def test_the_guide_lists_every_code_with_its_meaning() -> None:
    guide = (ROOT / "docs" / "deployment-prod.md").read_text()
    assert [code for code, meaning in MEANINGS.items() if f"| {code} | {meaning} |" not in guide] == []


def test_the_coordinator_has_a_reason_of_its_own_for_each_end_of_a_child() -> None:
    reasons = {code: exit_reason(code) for code in ExitCode}
    # A program error is a crash, and only --login can be interrupted.
    assert {code for code, reason in reasons.items() if reason is Reason.CRASHED} == {
        ExitCode.FAILED,
        ExitCode.INTERRUPTED,
    }
    named = [reason for reason in reasons.values() if reason is not Reason.CRASHED]
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("stderr", ["nobody reads it", "closed"])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["-m", "coordinator.main", "--max-queue", "ten"], 2),
        (["-m", "coordinator.main", "--site", "none-of-ours"], 1),
        (["-m", "coordinator.profiles", "check", "--profiles", "/nowhere"], 8),
        (["launch_camoufox.py", "--site", "none-of-ours", *LAUNCH], 2),
    ],
    ids=["setting", "site", "profiles", "child"],
)
def test_the_exit_code_stays_where_nobody_reads_stderr(command: list[str], code: int, stderr: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    shell = ["sh", "-c", 'exec "$@" 2>&-', "sh"] if stderr == "closed" else []
    ended = subprocess.run([*shell, sys.executable, *command], cwd=ROOT, stderr=write_end, check=False, timeout=60)
    os.close(write_end)
    assert ended.returncode == code

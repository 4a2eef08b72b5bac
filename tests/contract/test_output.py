"""What a program prints last must not change its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNWRITTEN = "import sys; from contract.output import *; tell('lost'); flush_output(); sys.exit(3)"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("-c", UNWRITTEN), 3),
        (("-m", "coordinator.main", "--nonsense"), 2),
        (("-m", "coordinator.profiles", "check", "--profiles", "/nowhere"), 8),
    ],
    ids=["unwritten", "coordinator", "profiles"],
)
def test_a_full_disk_of_the_log_leaves_the_exit_code_alone(command: tuple[str, ...], code: int) -> None:
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=full, check=False)
    assert run.returncode == code

"""Running ``python -m coordinator.profiles`` as an operator does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.s3 import secret_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[4]
COMMAND = (sys.executable, "-m", "coordinator.profiles")
SECRETS = ("token-of-", "first-key", "AKIASECRETINMESSAGE", "planted-session-token", secret_of("reader"))
"""Parts of the cookies, keys and credentials that the tests use; none may ever be shown."""


def run(
    arguments: Sequence[str], environment: Mapping[str, str], *, before: Sequence[str] = (), timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. `before` is a program that runs it, such as nsenter."""
    return subprocess.run(
        [*before, *COMMAND, *arguments],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def failure(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
    """The exit code and the one line of a run that failed as it should: no result, no traceback, no secret."""
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    shown = [secret for secret in SECRETS if secret in done.stderr]
    assert not shown
    lines = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return done.returncode, lines[0].removeprefix("error: ")

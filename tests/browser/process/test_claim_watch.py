"""A process ends with its claim, whatever its main thread is doing, and whatever fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from browser.process.claim_watch import watch_claim
from contract.claim_deadline import NO_FENCE, ClaimDeadlineFile, boottime
from contract.exit_codes import ExitCode
from tests.support.waiting import HANG_LIMIT_S

PROGRAM = """
import asyncio, os, signal, sys, time
from pathlib import Path
from browser.process import claim_watch
from contract.claim_deadline import ClaimDeadline

claim = ClaimDeadline(Path(sys.argv[1]))

def kill():
    os.write(2, b"killed")

def broken():
    raise RuntimeError("cannot kill")

async def serve():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)  # as a child does
    await asyncio.sleep(3600)

def write():
    reading, writing = os.pipe()
    while True:
        os.write(writing, bytes(4096))

def spin():
    while True:
        pass

{before}
claim_watch.watch_claim(claim, {kill})
os.write(1, b"up")
{then}
"""
WORK = {
    "event loop": "asyncio.run(serve())",
    "pipe": "write()",
    "loop that never waits": "spin()",
    "no event loop": "time.sleep(3600)",
}
SELDOM = "claim_watch.LOOK_INTERVAL_S = 3600"
"""With this the thread does not look again in time."""


@pytest.fixture
def deadline(tmp_path: Path) -> ClaimDeadlineFile:
    """The deadline of claims that hold, and will for an hour."""
    writer = ClaimDeadlineFile(tmp_path / "deadline")
    writer.extend(boottime() + 3600)
    return writer


@contextmanager
def running(tmp_path: Path, then: str, *, before: str = "", kill: str = "kill") -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(before=before, kill=kill, then=then), str(tmp_path / "deadline")],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_up(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdout.read(2) == b"up"


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """Wait for its end; return its exit code and what it has said."""
    _, said = process.communicate(timeout=HANG_LIMIT_S)
    return process.returncode, said


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_a_process_ends_with_its_claim(tmp_path: Path, deadline: ClaimDeadlineFile, work: str) -> None:
    with running(tmp_path, work) as process:
        wait_up(process)
        assert process.poll() is None
        deadline.end()
        assert ended(process) == (ExitCode.CLAIM_OVER, b"killed")


@pytest.mark.parametrize("work", ["event loop", "loop that never waits"])
def test_a_process_that_was_stopped_looks_before_it_goes_on(
    tmp_path: Path, deadline: ClaimDeadlineFile, work: str
) -> None:
    """One that waits in a system call may not be woken, and does nothing, until its thread looks again."""
    with running(tmp_path, WORK[work], before=SELDOM) as process:
        wait_up(process)
        for holds in (True, False):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            if not holds:
                deadline.end()
            process.send_signal(signal.SIGCONT)
            os.waitid(os.P_PID, process.pid, os.WCONTINUED | os.WNOWAIT | (0 if holds else os.WEXITED))
        assert ended(process) == (ExitCode.CLAIM_OVER, b"killed")


def test_it_ends_even_if_the_browser_cannot_be_killed(tmp_path: Path, deadline: ClaimDeadlineFile) -> None:
    with running(tmp_path, WORK["event loop"], kill="broken") as process:
        wait_up(process)
        deadline.end()
        assert ended(process) == (ExitCode.CLAIM_OVER, b"")


def test_it_ends_if_it_cannot_look(tmp_path: Path, deadline: ClaimDeadlineFile) -> None:
    deadline.extend(boottime() + 7200)
    with running(tmp_path, WORK["event loop"], before="del claim._descriptor") as process:
        assert ended(process) == (ExitCode.CLAIM_OVER, b"killed")


def test_without_a_fence_there_is_no_thread_and_no_handler() -> None:
    threads, handler = threading.active_count(), signal.getsignal(signal.SIGCONT)
    watch_claim(NO_FENCE, lambda: None)
    assert (threading.active_count(), signal.getsignal(signal.SIGCONT)) == (threads, handler)

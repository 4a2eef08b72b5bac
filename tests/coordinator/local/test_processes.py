"""What /proc tells of processes that are half gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

from contract.processes import ProcessStat, read_stat
from coordinator.local import processes
from tests.support.waiting import eventually

# Its first thread ends at once, another one reads until its input ends.
HEADLESS = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@contextlib.contextmanager
def python(script: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


async def test_a_process_is_not_dead_while_any_of_its_threads_runs() -> None:
    with python(HEADLESS) as process:
        found = await eventually(lambda: _zombie(process.pid), timeout_s=30)
        assert found is not None
        assert not found.dead
        assert not await processes.wait_dead([process.pid], timeout_s=0.05)
        assert process.stdin is not None
        process.stdin.close()
        assert await processes.wait_dead([process.pid], timeout_s=30)
        assert (last := read_stat(process.pid)) is None or last.dead


def _zombie(pid: int) -> ProcessStat | None:
    process = read_stat(pid)
    return process if process is not None and process.state == "Z" else None

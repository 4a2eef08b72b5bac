"""What /proc tells of processes that are half gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

from contract.processes import ProcessIdentity, ProcessStat, read_stat
from coordinator.local import processes
from tests.support.waiting import eventually

MARK = "run-folder-with-a-random-name"

# Its first thread ends at once, another one reads until its input ends.
HEADLESS = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
ctypes.CDLL(None).pthread_exit(None)
"""

# It starts a member of its group that has the mark on its command line only, says its pid, and lives on.
LEADER = f"""
import subprocess, sys, time
member = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "{MARK}"], env={{}})
print(member.pid, flush=True)
time.sleep(600)
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


async def test_a_group_without_its_leader_is_recognised_by_a_members_command_line() -> None:
    with python(LEADER) as leader:
        assert leader.stdout is not None
        member = int(leader.stdout.readline())
        recorded = ProcessIdentity.of(leader.pid)
        assert recorded is not None
        leader.kill()
        leader.wait()
        assert processes.is_same_group(recorded, MARK)
        assert not processes.is_same_group(recorded, "another folder")
        processes.kill_group(leader.pid)
        assert await processes.wait_dead([member], timeout_s=30)
        assert processes.group_members(leader.pid) == []

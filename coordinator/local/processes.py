"""Processes on this machine: who descends from whom, what they take, and waiting for their end.

psutil is imported where it is used: that takes 50 ms of CPU, which the start of the first child would wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Collection, Iterable
from typing import Final

import structlog

from contract.processes import read_stat

KILLED_TIMEOUT_S: Final = 2.0
"""How long the kernel may take to end what was killed."""
_POLL_S: Final = 0.005

log = structlog.get_logger(__name__)


def send_signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal to a child of ours, if it has not ended."""
    # Not Process.send_signal: it polls first, and may so take the exit code from who waits for it.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


async def wait_dead(pids: Iterable[int], timeout_s: float) -> bool:
    """Wait until all of these are dead, zombies included; return False if some are not after timeout_s seconds."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            for pid in pids:
                try:
                    descriptor = os.pidfd_open(pid)
                except OSError:  # it is gone, or the kernel has none to give
                    while (process := read_stat(pid)) is not None and not process.dead:  # noqa: ASYNC110 - nothing tells us
                        await asyncio.sleep(_POLL_S)
                    continue
                dead = asyncio.Event()
                loop.add_reader(descriptor, dead.set)
                try:
                    await dead.wait()
                finally:
                    loop.remove_reader(descriptor)
                    os.close(descriptor)
    except TimeoutError:
        return False
    return True


async def wait_killed(pids: Collection[int], **whose: str) -> None:
    """Wait until what was killed is dead, for KILLED_TIMEOUT_S; what is not is logged, with `whose` it is."""
    if not await wait_dead(pids, KILLED_TIMEOUT_S):
        log.error("leftovers_will_not_die", **whose, pids=sorted(pids))


def descendants(root: int) -> set[int]:
    """Return the pids of a process and all that descend from it now; of the root alone if it has gone."""
    import psutil  # noqa: PLC0415 - see the module

    with contextlib.suppress(psutil.Error):
        return {root, *(process.pid for process in psutil.Process(root).children(recursive=True))}
    return {root}


def pss_bytes(pid: int) -> int:
    """Return the process's proportional set size; 0 if it has gone or may not be read."""
    import psutil  # noqa: PLC0415 - see the module

    with contextlib.suppress(psutil.Error, OSError):
        return int(psutil.Process(pid).memory_full_info().pss)
    return 0

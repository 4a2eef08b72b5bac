"""Processes on this machine: who belongs to whom, what they take, and waiting for their end.

psutil is imported where it is used: that takes 50 ms of CPU, which the start of the first child would wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from contract.processes import ProcessIdentity, ProcessStat, read_stat

_POLL_S: Final = 0.005


def all_processes() -> Iterator[ProcessStat]:
    """Yield every process that can be seen, zombies included."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (process := read_stat(int(entry.name))) is not None:
            yield process


def group_members(group: int) -> list[int]:
    """Return the pids of the group's processes that are not zombies."""
    return [process.pid for process in all_processes() if process.group == group and not process.dead]


def mentions(pid: int, text: str) -> bool:
    """Return whether the environment that the process was started with, or its command line, contains the text.

    Most of Chromium's processes write a title over their environment; their command lines name the profile folder.
    """
    # Read as it is: psutil takes environments apart, of which such a title leaves nothing.
    try:
        return any(text.encode() in Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))
    except OSError:
        return False


def is_same_group(leader: ProcessIdentity, mark: str) -> bool:
    """Return whether the group of that id still is the one that this process led.

    Where the leader is gone its start time cannot be compared any more; then one living member must mention
    `mark`.
    """
    present = read_stat(leader.pid)
    if present is not None:
        return present.start_time == leader.start_time
    return any(mentions(pid, mark) for pid in group_members(leader.pid))


def kill_group(group: int) -> None:
    """Send SIGKILL to every process of the group, if there is any."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


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

"""Processes on this machine, read from /proc: are they still the ones we knew, and what do they take?

Fields are those of proc(5): in /proc/PID/stat after the parenthesised name, 1 is the state (field 3),
2 the parent (4), 3 the process group (5), 18 the number of threads (20), and 20 the start time in clock ticks (22).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PROC: Final = Path("/proc")
_POLL_S: Final = 0.005


@dataclass(frozen=True)
class Process:
    """One entry of /proc at one moment."""

    pid: int
    state: str
    parent: int
    group: int
    threads: int
    start_time: int

    @property
    def dead(self) -> bool:
        """Whether it is a zombie, or just about to vanish. One with threads left has its files open still."""
        return self.state in "ZXx" and self.threads <= 1


def read_process(pid: int) -> Process | None:
    """Return the process of that id, or None if there is none."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return Process(pid, fields[0], int(fields[1]), int(fields[2]), int(fields[17]), int(fields[19]))


def all_processes() -> Iterator[Process]:
    """Yield every process that can be seen."""
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and (process := read_process(int(entry.name))) is not None:
            yield process


def mentions(pid: int, text: str) -> bool:
    """Whether the environment that the process was started with, or its command line, contains the text.

    Most of Chromium's processes write a title over their environment; their command lines name the profile folder.
    """
    try:
        return any(text.encode() in (_PROC / str(pid) / name).read_bytes() for name in ("environ", "cmdline"))
    except OSError:
        return False


def same_process(pid: int, start_time: int) -> bool:
    """Whether that pid still is the process that started then, and alive."""
    process = read_process(pid)
    return process is not None and process.start_time == start_time and not process.dead


def living_members(group: int) -> list[int]:
    """Return the pids of the group's processes that are not zombies."""
    return [p.pid for p in all_processes() if p.group == group and not p.dead]


def same_group(group: int, start_time: int, mark: str) -> bool:
    """Whether the process group still is the one whose leader started then.

    Where the leader is gone its start time cannot be compared any more; then one living member must mention
    `mark`.
    """
    leader = read_process(group)
    if leader is not None:
        return leader.start_time == start_time
    return any(mentions(pid, mark) for pid in living_members(group))


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


async def wait_dead(pids: Iterable[int], timeout_s: float) -> bool:
    """Wait until all of these are dead, zombies included; False if some are not after timeout_s seconds."""
    try:
        async with asyncio.timeout(timeout_s):
            for pid in pids:
                await _until_dead(pid)
    except TimeoutError:
        return False
    return True


async def _until_dead(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # it is gone, or the kernel has none to give
        while (process := read_process(pid)) is not None and not process.dead:  # noqa: ASYNC110 - nothing tells us
            await asyncio.sleep(_POLL_S)
        return
    loop, dead = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, dead.set)
    try:
        await dead.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def descendants(root: int) -> set[int]:
    """Return the pid itself and all that descend from it now."""
    children: dict[int, list[int]] = {}
    for process in all_processes():
        children.setdefault(process.parent, []).append(process.pid)
    found, frontier = {root}, [root]
    while frontier:
        frontier = [pid for parent in frontier for pid in children.get(parent, ()) if pid not in found]
        found.update(frontier)
    return found


def proportional_bytes(pid: int) -> int:
    """Return the process's proportional set size; 0 if it has gone or may not be read."""
    try:
        rollup = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0
    lines = (line.split() for line in rollup.splitlines())
    return next((int(words[1]) << 10 for words in lines if words[0] == "Pss:"), 0)

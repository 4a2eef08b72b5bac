"""Who a process is: its id with its start time, so that it cannot be mistaken for a later one of the same id.

Fields are those of proc(5): in /proc/PID/stat after the parenthesised name, 1 is the state (field 3),
2 the parent (4), 3 the process group (5), 18 the number of threads (20), and 20 the start time in clock ticks (22).

psutil has no such identity: its `create_time` adds the boot time, which moves when the clock is set.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


@dataclass(frozen=True)
class ProcessStat:
    """One entry of /proc at one moment. `start_time` is in clock ticks since boot."""

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


def read_stat(pid: int) -> ProcessStat | None:
    """Return the process of that id, or None if there is none."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return ProcessStat(pid, fields[0], int(fields[1]), int(fields[2]), int(fields[17]), int(fields[19]))


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, or the leader of a group, that cannot be mistaken for a later one of the same id."""

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Return the identity of a process that is alive now, None if there is none of that id."""
        stat = read_stat(pid)
        return None if stat is None or stat.dead else cls(pid, stat.start_time)

    def is_alive(self) -> bool:
        """Return whether it has neither ended nor become a zombie."""
        return ProcessIdentity.of(self.pid) == self

    def kill(self) -> None:
        """Send SIGKILL, if it is still the one."""
        if self.is_alive():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)

    def has_group(self, mark: str | None = None) -> bool:
        """Return whether the group of this id still is the one that this process leads or led.

        Where the leader is gone, another one may have had its id since, and be gone as well; then one living member
        must mention `mark`.
        """
        present = read_stat(self.pid)
        if present is not None:
            return present.start_time == self.start_time
        return mark is not None and any(mentions(pid, mark) for pid in group_members(self.pid))

    def kill_group(self, mark: str | None = None) -> None:
        """Send SIGKILL to the group that this one leads or led, if it is that one still: see `has_group`."""
        if self.has_group(mark):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)


def all_processes() -> Iterator[ProcessStat]:
    """Yield every process that can be seen, zombies included."""
    for entry in _PROC.iterdir():
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
        return any(text.encode() in (_PROC / str(pid) / name).read_bytes() for name in ("environ", "cmdline"))
    except OSError:
        return False

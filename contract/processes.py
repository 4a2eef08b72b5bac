"""Who a process is: its id with its start time, so that it cannot be mistaken for a later one of the same id.

Fields are those of proc(5): in /proc/PID/stat after the parenthesised name, 1 is the state (field 3),
2 the parent (4), 3 the process group (5), 18 the number of threads (20), and 20 the start time in clock ticks (22).

psutil has no such identity: its `create_time` adds the boot time, which moves when the clock is set.
"""

from __future__ import annotations

import os
import signal
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

    def kill_group(self) -> None:
        """Send SIGKILL to the group that this one leads or led, if no later process has its id."""
        stat = read_stat(self.pid)
        if stat is not None and stat.start_time != self.start_time:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

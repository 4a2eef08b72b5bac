"""CPU time of other processes, all their threads: nanoseconds from schedstat, else clock ticks from stat."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """Seconds of CPU that these processes have used so far. Source: proc(5), Documentation/scheduler/sched-stats."""
    return sum(map(_of_process, pids))


def _of_process(pid: int) -> float:
    try:
        files = Path(f"/proc/{pid}/task").glob("*/schedstat")
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9 or _ticks(pid)
    except OSError:
        return _ticks(pid)


def _ticks(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S

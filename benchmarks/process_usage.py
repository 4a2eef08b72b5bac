"""CPU time and memory of other processes, read from /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process_events import children_of
from tests.e2e.fleet import descendants

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds that these processes, with all their threads, have used so far.

    In nanoseconds from schedstat (Documentation/scheduler/sched-stats), else in clock ticks from stat (proc(5)).
    """
    total = 0.0
    for pid in pids:
        # A thread may end between the listing and the reading; not every kernel has schedstat, or it is all zeros.
        nanoseconds = 0
        with contextlib.suppress(OSError):
            files = Path(f"/proc/{pid}/task").glob("*/schedstat")
            nanoseconds = sum(int(file.read_text().split()[0]) for file in files)
        if nanoseconds:
            total += nanoseconds / 1e9
        else:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) * _TICK_S
    return total


def thread_cpu_s(pids: Iterable[int]) -> Mapping[int, float]:
    """Return the CPU seconds used so far by each thread of these processes that is alive, by its number.

    Needs a kernel with schedstat (Documentation/scheduler/sched-stats).
    """
    used = {}
    for pid in pids:
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # the thread has ended
                used[int(file.parent.name)] = int(file.read_text().split()[0]) / 1e9
    return used


def used_since_s(before: Mapping[int, float], pids: Iterable[int]) -> float:
    """Return the CPU seconds that these processes have used since `before`, of `thread_cpu_s`.

    What a thread used that has ended meanwhile is not known; a long span would come out negative if it was subtracted.
    """
    return sum(used - before.get(thread, 0.0) for thread, used in thread_cpu_s(pids).items())


def pss_mb(pids: Iterable[int]) -> float:
    """Return the proportional set size of these processes in MB; 0 for one that has exited.

    Memory shared by n processes counts as 1/n for each (proc(5), smaps_rollup, whose kB are 1024 bytes).
    """
    kb = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith("Pss:"):
                    kb += int(line.split()[1])
    return kb * 1024 / 1e6


@dataclass(frozen=True)
class ChildMemory:
    """Proportional set sizes in MB of a child's Python process, its Playwright driver and its browser."""

    python: float
    driver: float
    browser: float

    @property
    def total(self) -> float:
        """Return the sum in MB."""
        return self.python + self.driver + self.browser


def child_memory(pid: int) -> ChildMemory:
    """Measure the Python process `pid`, the driver below it, and the browser below that."""
    drivers = children_of(pid)
    browsers = {process for driver in drivers for process in descendants(driver)}
    return ChildMemory(pss_mb([pid]), pss_mb(drivers), pss_mb(browsers))

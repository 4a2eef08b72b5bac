"""The memory of a child, or of a bare script, by part."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from benchmarks.watching import children_of
from tests.e2e.fleet import descendants


@dataclass(frozen=True)
class Parts:
    """Proportional set sizes in MB: what is shared with other processes counts by halves, thirds and so on."""

    python: float
    driver: float
    browser: float

    @property
    def total(self) -> float:
        return self.python + self.driver + self.browser


def parts(pid: int) -> Parts:
    """Measure the Python process `pid`, the driver below it, and the browser below that."""
    drivers = children_of(pid)
    browsers = {below for driver in drivers for below in descendants(driver)}
    return Parts(_pss_mb([pid]), _pss_mb(drivers), _pss_mb(browsers))


def _pss_mb(pids: set[int] | list[int]) -> float:
    return sum(map(_pss_kb, pids)) * 1024 / 1e6


def _pss_kb(pid: int) -> int:
    """Source: proc(5), smaps_rollup; its kB are 1024 bytes."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0

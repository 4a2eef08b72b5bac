"""A coordinator with 1,000 children beside one with 10: `python -m benchmarks scale`, up to three minutes.

The children are processes that cost next to nothing (benchmarks/frugal_child.py); what is measured is the
coordinator: CPU for a probe while it is idle, CPU for a request under load with that of the probes taken off, and
memory. Requests go to all children in turn, then, for a model that only ten of them have, to those: what comes of
using many, and what of routing among many. Both run side by side and are measured in turn, and both probe
PROBES_PER_S times a second in all, so that what is taken off is as much for the one as for the other. Each child says
itself how often it was probed.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import track

from benchmarks.cheap_fleet import cheap_fleet
from benchmarks.cpu import cpu_s
from benchmarks.frugal_child import CHOSEN, CHOSEN_MODEL
from benchmarks.load import whole_answers
from benchmarks.report import Compared, Result
from coordinator.local.processes import pss_bytes
from tests.support.ports import free_range

MANY, FEW = 1000, CHOSEN
ROUNDS = 5
IDLE_S = 5.0
PROBES_PER_S = 100
REQUESTS = 4_000
CONNECTIONS = 10  # as many as the few can serve at a time
START_S = 100.0
ENOUGH_S = 130.0  # no round begins later than this
# From cProfile of both under load: no function is called more often for a request than with the few, but for
# comparisons in the heap of timers, 9 instead of 5. All take longer alike, and by far most of it in user mode.
LARGEST_COST = (
    "the largest remaining cost is that each request goes to the child that was idle longest, so that its connection"
    " and its objects have left the CPU's caches; what routing among so many costs by itself is the next row"
)


@dataclass
class Contender:
    """A coordinator, and what each round showed of it: microseconds of CPU, megabytes."""

    children: int
    port: int
    child_port: int
    pid: int
    per_probe: list[float] = field(default_factory=list)
    per_request: list[float] = field(default_factory=list)
    per_chosen: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    def used(self) -> tuple[float, int]:
        """Seconds of CPU so far, and probes so far."""
        return cpu_s([self.pid]), self.probes()

    def probes(self) -> int:
        return sum(map(_count, range(self.child_port, self.child_port + self.children)))

    def warm_up(self) -> None:
        """As many requests as there are children: each gets one, since the longest idle one comes first."""
        asyncio.run(whole_answers(self.port, requests=max(self.children, 20 * CONNECTIONS), connections=CONNECTIONS))

    def load(self) -> None:
        """Take the round's requests, one a connection at a time, when a connection to each child is open."""
        self.warm_up()
        self.per_request.append(self._request_us("bench"))
        self.per_chosen.append(self._request_us(CHOSEN_MODEL))
        self.memory_mb.append(pss_bytes(self.pid) / 1e6)

    def _request_us(self, model: str) -> float:
        before_s, before = self.used()
        asyncio.run(whole_answers(self.port, requests=REQUESTS, connections=CONNECTIONS, model=model))
        after_s, after = self.used()
        probing_s = (after - before) * self.per_probe[-1] / 1e6
        return (after_s - before_s - probing_s) / REQUESTS * 1e6


def run(console: Console) -> Result:
    """Start both, then measure them in turn, round by round."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp") as folder, contextlib.ExitStack() as stack:
        console.print(f"scale: starting {MANY:,} children", style="dim")
        many, few = (stack.enter_context(_contender(Path(folder), count)) for count in (MANY, FEW))
        for contender in (many, few):
            contender.warm_up()
        for number in track(range(ROUNDS), "scale", console=console, transient=True):
            if number and time.monotonic() - began > ENOUGH_S:
                break
            _idle((many, few))
            for contender in (many, few):
                contender.load()
    return _result(many, few)


def _idle(contenders: tuple[Contender, ...]) -> None:
    """Leave them to their probes for a while."""
    before = [contender.used() for contender in contenders]
    time.sleep(IDLE_S)
    for contender, (before_s, probes) in zip(contenders, before, strict=True):
        after_s, after = contender.used()
        contender.per_probe.append((after_s - before_s) / (after - probes) * 1e6)


def _result(many: Contender, few: Contender) -> Result:
    beside = f"{FEW} children"
    rows = [
        Compared.of_runs("CPU per request", "us", many.per_request, beside, few.per_request, aim=1.2),
        Compared.of_runs(f"the same for a model of {CHOSEN} of them", "us", many.per_chosen, beside, few.per_chosen),
        Compared.of_runs("CPU per probe", "us", many.per_probe, beside, few.per_probe),
        Compared.of_runs("memory (PSS)", "MB", many.memory_mb, beside, few.memory_mb),
    ]
    each_kb = (median(many.memory_mb) - median(few.memory_mb)) / (MANY - FEW) * 1e3
    share = median(many.per_probe) * MANY / 1e4
    setting = (
        f"Probing {MANY:,} children once a second takes {share:.0f} % of a core; each takes {each_kb:.0f} kB"
        f" of the coordinator's memory. {REQUESTS:,} requests a round over {CONNECTIONS} connections."
    )
    notes = [setting, *(f"{row.what}: {LARGEST_COST}" for row in rows if not row.met)]
    title = f"A coordinator with {MANY:,} children beside one with {FEW} (medians of {len(many.per_request)} rounds)"
    return Result(title, rows, notes)


@contextlib.contextmanager
def _contender(folder: Path, children: int) -> Iterator[Contender]:
    first = free_range(2 * children + 1)
    fleet = cheap_fleet(
        folder / str(children),
        port=first,
        child_port=first + 1,
        children=children,
        frugal=True,
        probe_interval_s=children / PROBES_PER_S,
        start_s=START_S,
    )
    with fleet as running:
        yield Contender(children, first, first + 1, running.pid)


def _count(port: int) -> int:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", "/count")
        return int(connection.getresponse().read())

"""A coordinator with 1,000 children compared with one with 10: `python -m benchmarks scale`, up to four minutes.

The children are small stub processes (benchmarks/tiny_stub_child.py), and one more process answers for those of a
coordinator: a thousand processes in turn would empty the CPU's caches between its requests, as browsers do whatever
their number. The benchmark measures the coordinator: CPU of a probe while idle, CPU of a request under load less that
of the probes, and memory. Requests go to all children in turn, then, for a model that only ten of them serve, to these
ten: the first shows the cost of using many children, the second that of routing among many. Both coordinators run at
the same time and are measured in turn. Both send PROBES_PER_S probes a second in total, so that the same is subtracted
from both; each stub counts its own probes.

Before that, a coordinator with 1,000 children that probes each of them every second, as it does by default, is measured
alone: what its probes take, and an answer of `/ready`.
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

from benchmarks.load import chat_request, json_completions
from benchmarks.process_usage import cpu_s, pss_mb
from benchmarks.report import Compared, Figure, Result
from benchmarks.stub_fleet import stub_fleet
from benchmarks.tiny_stub_child import SUBSET, SUBSET_MODEL
from tests.support.ports import wide_range

MANY, FEW = 1000, SUBSET
ROUNDS = 5
IDLE_S = 5.0
PROBES_PER_S = 100
REQUESTS = 4_000
CONNECTIONS = 10  # as many as FEW children can serve at a time
READY_ANSWERS = 20
START_S = 100.0
ENOUGH_S = 130.0  # no round starts later than this
# From cProfile of both under load: with many children, no function is called more often per request, except comparisons
# in the heap of timers, 9 instead of 5. All functions take longer in the same proportion, mostly in user mode.
LARGEST_COST = (
    "the largest remaining cost is cache misses: each request goes to the child that was idle longest, whose connection"
    " and objects have left the CPU's caches; the next row shows the cost of routing alone"
)


@dataclass
class Alone:
    """What a coordinator with 1,000 children takes while nobody sends requests, in each round."""

    probing_percent: list[float] = field(default_factory=list)
    """Of a core, for probing each child every second."""
    ready_ms: list[float] = field(default_factory=list)
    """CPU of an answer of `/ready`."""


@dataclass
class Contender:
    """A coordinator, and its figures in each round: microseconds of CPU, and MB."""

    children: int
    port: int
    child_port: int
    pid: int
    per_probe: list[float] = field(default_factory=list)
    per_request: list[float] = field(default_factory=list)
    per_chosen: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    def used(self) -> tuple[float, int]:
        """Return the CPU seconds and the number of probes so far."""
        return cpu_s([self.pid]), self.probes()

    def probes(self) -> int:
        """Return how many probes all children have received so far."""
        total = 0
        for port in range(self.child_port, self.child_port + self.children):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
                connection.request("GET", "/count")
                total += int(connection.getresponse().read())
        return total

    def ready_answers(self) -> None:
        """Ask `/ready` READY_ANSWERS times, each on a connection of its own."""
        for _ in range(READY_ANSWERS):
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
                connection.request("GET", "/ready")
                connection.getresponse().read()

    def warm_up(self) -> None:
        """Send at least one request to each child: the pool chooses the one that was idle longest."""
        asyncio.run(json_completions(self.port, requests=max(self.children, 20 * CONNECTIONS), connections=CONNECTIONS))

    def load(self) -> None:
        """Measure a round of requests, one per connection at a time, once a connection to each child is open."""
        self.warm_up()
        self.per_request.append(self._request_us("bench"))
        self.per_chosen.append(self._request_us(SUBSET_MODEL))
        self.memory_mb.append(pss_mb([self.pid]))

    def _request_us(self, model: str) -> float:
        request = chat_request(model=model)
        before_s, before = self.used()
        asyncio.run(json_completions(self.port, requests=REQUESTS, connections=CONNECTIONS, request=request))
        after_s, after = self.used()
        probing_s = (after - before) * self.per_probe[-1] / 1e6
        return (after_s - before_s - probing_s) / REQUESTS * 1e6


def run(console: Console) -> Result:
    """Start both coordinators, then measure them in turn, round by round."""
    alone = _measure_alone(console)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp") as folder, contextlib.ExitStack() as stack:
        console.print(f"scale: starting {MANY:,} children", style="dim")
        many, few = (
            stack.enter_context(_contender(Path(folder), count, probe_interval_s=count / PROBES_PER_S))
            for count in (MANY, FEW)
        )
        for contender in (many, few):
            contender.warm_up()
        for number in track(range(ROUNDS), "scale", console=console, transient=True):
            if number and time.monotonic() - began > ENOUGH_S:
                break
            # Idle for a while, to measure the probes alone.
            before = [contender.used() for contender in (many, few)]
            time.sleep(IDLE_S)
            for contender, (before_s, probes) in zip((many, few), before, strict=True):
                after_s, after = contender.used()
                contender.per_probe.append((after_s - before_s) / (after - probes) * 1e6)
            for contender in (many, few):
                contender.load()
    return _result(alone, many, few)


def _measure_alone(console: Console) -> Alone:
    found = Alone()
    console.print(f"scale: starting {MANY:,} children that are probed every second", style="dim")
    with (
        tempfile.TemporaryDirectory(prefix="sc-", dir="/tmp") as folder,
        _contender(Path(folder), MANY, probe_interval_s=1.0) as coordinator,
    ):
        time.sleep(IDLE_S)  # for the last starts to end
        for _ in track(range(ROUNDS), "scale, alone", console=console, transient=True):
            before_s, before = coordinator.used()
            time.sleep(IDLE_S)
            after_s, after = coordinator.used()
            per_probe_s = (after_s - before_s) / (after - before)
            found.probing_percent.append(per_probe_s * MANY * 100)
            before_s, before = coordinator.used()
            coordinator.ready_answers()
            after_s, after = coordinator.used()
            took_s = after_s - before_s - (after - before) * per_probe_s
            found.ready_ms.append(took_s / READY_ANSWERS * 1e3)
    return found


def _result(alone: Alone, many: Contender, few: Contender) -> Result:
    peer = f"{FEW} children"
    rows = [
        Compared.of_runs("CPU per request", "us", many.per_request, peer, few.per_request, aim=1.15),
        Compared.of_runs(
            f"CPU per request, model served by {SUBSET} of them", "us", many.per_chosen, peer, few.per_chosen
        ),
        Compared.of_runs("CPU per probe", "us", many.per_probe, peer, few.per_probe),
        Compared.of_runs("memory (PSS)", "MB", many.memory_mb, peer, few.memory_mb),
    ]
    each_kb = (median(many.memory_mb) - median(few.memory_mb)) / (MANY - FEW) * 1e3
    figures = [
        Figure(f"CPU for probing {MANY:,} children every second, of a core", "%", alone.probing_percent, aim=10.0),
        Figure(f"CPU per answer of /ready with {MANY:,} children", "ms", alone.ready_ms, aim=5.0),
    ]
    setting = (
        f"Each child takes {each_kb:.0f} kB of the coordinator's memory."
        f" {REQUESTS:,} requests per round over {CONNECTIONS} connections."
    )
    notes = [setting, *(f"{row.what}: {LARGEST_COST}" for row in rows if not row.met)]
    title = f"A coordinator with {MANY:,} children compared with {FEW} (medians of {len(many.per_request)} rounds)"
    return Result(title, rows, notes, figures)


@contextlib.contextmanager
def _contender(folder: Path, children: int, *, probe_interval_s: float) -> Iterator[Contender]:
    first = wide_range(2 * children + 1)
    fleet = stub_fleet(
        folder / str(children),
        port=first,
        child_port=first + 1,
        children=children,
        tiny=True,
        probe_interval_s=probe_interval_s,
        start_s=START_S,
    )
    with fleet as running:
        yield Contender(children, first, first + 1, running.pid)

"""What must not be left when all is calm: looked at from outside, and compared with `/metrics` and `/ready`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from coordinator.supervision.lifecycle import LIVE
from tests.chaos import system
from tests.chaos.evidence import Findings
from tests.chaos.fleet import Fleet
from tests.chaos.system import Descriptors
from tests.support.metrics import Metrics

SETTLE_S = 8.0
PATIENT_SETTLE_S = 25.0  # idle connections to children live for 15 s
# To each child. A cancel beside a probe makes a second connection, and then probes use the two in turn, for ever.
PROBE_CONNECTIONS = 2
IDLE_CONNECTIONS = PROBE_CONNECTIONS + 1  # of requests; gone after 15 s
RUN_FOLDERS = "tabfleet-run-*"


@dataclass(frozen=True)
class Leaks:
    """Rows of the table; all are to be 0."""

    leases: int
    processes: int
    descriptors: int
    zombies: int
    files: int
    more: str  # which descriptors, which processes

    @property
    def any(self) -> bool:
        return any((self.leases, self.processes, self.descriptors, self.zombies, self.files))

    def with_what_is_left(self, left: Collection[int], files: Collection[Path]) -> Leaks:
        """Add what there still is after the coordinator's end."""
        more = f"{self.more}; after the end: {[system.describe(pid) for pid in left]}, {[path.name for path in files]}"
        return replace(self, processes=self.processes + len(left), files=self.files + len(files), more=more)


@dataclass(frozen=True)
class Base:
    """What an idle fleet of this size has."""

    descriptors: Descriptors
    orphans: int  # Chromium's crash handlers leave the family, and end with their browser


async def idle(fleet: Fleet) -> Base:
    """The least of several looks, for the last of our own connections may still close."""
    looks = []
    for _ in range(10):
        await asyncio.sleep(0.05)
        looks.append(system.descriptors(fleet.pid, fleet.child_ports))
    orphans = system.orphans(str(fleet.tmp), fleet.pid)
    return Base(min(looks, key=lambda seen: seen.total), len(orphans))


async def settled(fleet: Fleet, base: Base, *, patient: bool) -> Leaks:
    """Wait until nothing is left, for some time; return what still is.

    `patient` waits until idle connections to children have closed by themselves, else they do not count.
    """
    deadline = time.monotonic() + (PATIENT_SETTLE_S if patient else SETTLE_S)
    while True:
        leaks = await look(fleet, base, patient=patient)
        if not leaks.any or time.monotonic() > deadline:
            return leaks
        await asyncio.sleep(0.2)


async def look(fleet: Fleet, base: Base, *, patient: bool) -> Leaks:
    """Count once."""
    now = system.descriptors(fleet.pid, fleet.child_ports)  # before there are connections of our own
    metrics, children = await fleet.metrics(), await fleet.children()
    live = sum(metrics.sum("tabfleet_children", state=state) for state in LIVE)
    connections = int(live) * (PROBE_CONNECTIONS if patient else IDLE_CONNECTIONS)
    orphans = system.orphans(str(fleet.tmp), fleet.pid)
    unaccounted = abs(len(system.children(fleet.pid)) - int(live))
    return Leaks(
        leases=leases(metrics, children.values()),
        processes=max(0, len(orphans) - base.orphans) + unaccounted,
        descriptors=max(0, now.others - base.descriptors.others) + max(0, now.to_children - connections),
        zombies=len(system.zombies(fleet.pid)),
        files=len(leftover_files(fleet.tmp, len(children))),
        more=f"{unaccounted} unaccounted, {[system.describe(pid) for pid in orphans]};"
        f" descriptors: {now.to_children} to children, {dict(now.kinds - base.descriptors.kinds)} more than at first",
    )


def leases(metrics: Metrics, children: Collection[dict[str, object]]) -> int:
    """Leases that are out, or requests that wait, with nobody there any more."""
    in_flight = sum(int(str(child["in_flight"])) for child in children)
    held = metrics.sum("tabfleet_leases_held") + metrics.sum("tabfleet_queue_length")
    return max(in_flight, int(held))


def leftover_files(tmp: Path, children: int) -> list[Path]:
    """What a running coordinator has in its TMPDIR beside one run folder for each child."""
    found = [path for path in tmp.iterdir() if not path.match(RUN_FOLDERS)]
    for root in tmp.glob(RUN_FOLDERS):
        found += (root / "trash").iterdir()
        found += sorted((root / "children").iterdir())[children:]
    return found


def disagreements(metrics: Metrics, fleet: Fleet, findings: Findings) -> tuple[str, ...]:
    """Where `/metrics` says otherwise than the system and the clients; both were read in calm."""
    told = []
    total = system.descriptors(fleet.pid, fleet.child_ports).total
    if abs(metrics.sum("process_open_fds") - total) > IDLE_CONNECTIONS:
        told.append(f"/metrics: {metrics.sum('process_open_fds'):g} open descriptors, /proc: {total}")
    memory, real = metrics.sum("process_resident_memory_bytes"), system.resident_bytes(fleet.pid)
    if abs(memory - real) > real / 5:
        told.append(f"/metrics: {memory / 1e6:.1f} MB of memory, /proc: {real / 1e6:.1f} MB")
    answered = int(metrics.sum("tabfleet_requests_total", outcome="answered"))
    unsure = findings.left + len(findings.hung) + len(findings.wrong)  # clients that did not see how it ended
    if not findings.answered <= answered <= findings.answered + unsure:
        told.append(f"/metrics: {answered} answered, the clients: {findings.answered} and up to {unsure} more")
    ended = int(metrics.sum("tabfleet_requests_total"))
    if ended < findings.answered + findings.refused:
        told.append(f"/metrics: {ended} requests in all, fewer than the clients had answered or refused")
    return tuple(told)

"""Count leaks once all faults are over, from outside, and compare with `/metrics` and `/ready`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from coordinator.supervision.lifecycle import LIVE
from tests.chaos import proc
from tests.chaos.fleet import Fleet
from tests.chaos.proc import Descriptors
from tests.chaos.verification import Findings
from tests.support.metrics import Metrics

SETTLE_S = 8.0
PATIENT_SETTLE_S = 25.0  # idle connections to children live for 15 s
DESCRIPTORS_EACH = 3  # of a process: its pidfd, its output, and orders to a host
# Per child. A cancel during a probe opens a second connection; from then on probes alternate between the two.
PROBE_CONNECTIONS = 2
IDLE_CONNECTIONS = PROBE_CONNECTIONS + 1  # one more of a request, closed after 15 s idle
RUN_FOLDERS = "tabfleet-run-*"


@dataclass(frozen=True)
class Leaks:
    """Rows of the report that must be 0."""

    leases: int
    processes: int
    descriptors: int
    zombies: int
    files: int
    more: str  # which descriptors and processes

    @property
    def any(self) -> bool:
        """Return whether anything leaked."""
        return any((self.leases, self.processes, self.descriptors, self.zombies, self.files))

    def with_remains(self, left: Collection[int], files: Collection[Path]) -> Leaks:
        """Add the processes and files that are left after the coordinator has exited."""
        more = f"{self.more}; after the exit: {[proc.describe(pid) for pid in left]}, {[path.name for path in files]}"
        return replace(self, processes=self.processes + len(left), files=self.files + len(files), more=more)


@dataclass(frozen=True)
class Baseline:
    """Descriptors of an idle fleet of this size, and its orphans for each of its processes."""

    descriptors: Descriptors
    processes: int
    orphans_each: int  # Chromium's crash handlers are reparented to init, and exit with their browser


async def idle_baseline(fleet: Fleet) -> Baseline:
    """Return the smallest of several counts: the last of our own connections may still be closing."""
    looks = []
    for _ in range(10):
        await asyncio.sleep(0.05)
        looks.append(proc.descriptors(fleet.pid, fleet.child_ports))
    orphans, running = proc.orphans(str(fleet.tmp), fleet.pid), proc.children(fleet.pid)
    return Baseline(min(looks, key=lambda seen: seen.total), len(running), len(orphans) // max(1, len(running)))


async def wait_until_settled(fleet: Fleet, base: Baseline, *, patient: bool) -> Leaks:
    """Wait until nothing is leaked, and return what still is when the wait times out.

    `patient` waits for idle connections to children to close by themselves; otherwise they do not count.
    """
    deadline = time.monotonic() + (PATIENT_SETTLE_S if patient else SETTLE_S)
    while True:
        leaks = await measure(fleet, base, patient=patient)
        if not leaks.any or time.monotonic() > deadline:
            return leaks
        await asyncio.sleep(0.2)


async def measure(fleet: Fleet, base: Baseline, *, patient: bool) -> Leaks:
    """Count leaks once."""
    now = proc.descriptors(fleet.pid, fleet.child_ports)  # before we open connections
    metrics, children = await fleet.metrics(), await fleet.children()
    live = sum(metrics.sum("tabfleet_children", state=state) for state in LIVE)
    connections = int(live) * (PROBE_CONNECTIONS if patient else IDLE_CONNECTIONS)
    orphans = proc.orphans(str(fleet.tmp), fleet.pid)
    running = proc.children(fleet.pid)
    unaccounted = len(running ^ await fleet.child_pids())
    # One of logins that share browsers may have one of its own meanwhile.
    allowed = base.descriptors.others + DESCRIPTORS_EACH * max(0, len(running) - base.processes)
    return Leaks(
        leases=leases(metrics, children.values()),
        processes=max(0, len(orphans) - base.orphans_each * len(running)) + unaccounted,
        descriptors=max(0, now.others - allowed) + max(0, now.to_children - connections),
        zombies=len(proc.zombies(fleet.pid)),
        files=len(leftover_files(fleet.tmp, len(children))),
        more=f"{unaccounted} unaccounted, {[proc.describe(pid) for pid in orphans]};"
        f" descriptors: {now.to_children} to children, {dict(now.kinds - base.descriptors.kinds)} more than idle",
    )


def leases(metrics: Metrics, children: Collection[dict[str, object]]) -> int:
    """Return how many leases are held, or requests queued, although no client is left."""
    in_flight = sum(int(str(child["in_flight"])) for child in children)
    held = metrics.sum("tabfleet_leases_held") + metrics.sum("tabfleet_queue_length")
    return max(in_flight, int(held))


def leftover_files(tmp: Path, children: int) -> list[Path]:
    """Return what is in a running coordinator's TMPDIR besides one run folder for each child."""
    found = [path for path in tmp.iterdir() if not path.match(RUN_FOLDERS)]
    for root in tmp.glob(RUN_FOLDERS):
        found += (root / "trash").iterdir()
        found += sorted((root / "children").iterdir())[children:]
    return found


def metric_mismatches(metrics: Metrics, fleet: Fleet, findings: Findings) -> tuple[str, ...]:
    """Return where `/metrics` differs from /proc and from what the clients saw, both read without load."""
    found = []
    total = proc.descriptors(fleet.pid, fleet.child_ports).total
    if abs(metrics.sum("process_open_fds") - total) > IDLE_CONNECTIONS:
        found.append(f"/metrics: {metrics.sum('process_open_fds'):g} open descriptors, /proc: {total}")
    memory, real = metrics.sum("process_resident_memory_bytes"), proc.resident_bytes(fleet.pid)
    if abs(memory - real) > real / 5:
        found.append(f"/metrics: {memory / 1e6:.1f} MB of memory, /proc: {real / 1e6:.1f} MB")
    answered = int(metrics.sum("tabfleet_requests_total", outcome="answered"))
    unsure = findings.left + len(findings.hung) + len(findings.wrong)  # requests whose end the client did not see
    if not findings.answered <= answered <= findings.answered + unsure:
        found.append(f"/metrics: {answered} answered, the clients: {findings.answered} and up to {unsure} more")
    ended = int(metrics.sum("tabfleet_requests_total"))
    if ended < findings.answered + findings.refused:
        found.append(f"/metrics: {ended} requests, fewer than the clients saw answered or refused")
    return tuple(found)

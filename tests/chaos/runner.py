"""One chaos run: start the fleet, send requests under faults, recover, count what is left, stop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from tests.chaos import fleet as fleets
from tests.chaos import proc
from tests.chaos.clients import Clients
from tests.chaos.fleet import ChaosFailed, wait_until
from tests.chaos.leaks import Leaks, idle_baseline, metric_mismatches, wait_until_settled
from tests.chaos.scenario import Scenario
from tests.chaos.verification import Findings, Result, verify
from tests.support.ports import free_range

OPERATOR_INTERVAL_S = 0.5
RECOVER_S = 90.0


@dataclass(frozen=True)
class Plan:
    """The size of a run. Times in seconds; `seconds` 0 means no limit."""

    requests: int
    seconds: float
    seed: int
    clients: int
    fault_every_s: float
    hang_after_s: float
    patient: bool  # wait for idle connections to children to close by themselves


@dataclass(frozen=True)
class Times:
    """Duration of each phase in seconds."""

    requests: float
    recovery: float  # until all children were READY again
    settling: float  # until nothing was leaked any more, or the wait timed out
    end: float


@dataclass(frozen=True)
class Outcome:
    """Everything that the report shows."""

    findings: Findings
    leaks: Leaks
    start_bytes: int
    end_bytes: int
    times: Times
    faults: int
    notes: tuple[str, ...]  # more reasons to fail


async def run(scenario: Scenario, plan: Plan, progress: Callable[[int], None]) -> Outcome:
    """Run all phases. Raise ChaosFailed if the fleet does not start, recover or stop."""
    config = scenario.config
    first = free_range(2 * len(config.names) + 1)
    child_ports = range(first + 1, first + 1 + len(config.names))
    async with fleets.running(config.command, config.folder, config.environment, first, child_ports) as fleet:
        scenario.fleet = fleet
        await wait_until(lambda: all_ready(scenario), "all children READY", timeout_s=RECOVER_S)
        if not proc.children(fleet.pid) <= proc.marked(str(fleet.tmp)) or not proc.files(fleet.tmp):
            raise ChaosFailed(f"processes or run folders cannot be found by {fleet.tmp}, so no leak would be seen")
        base, start_bytes = await idle_baseline(fleet), proc.resident_bytes(fleet.pid)
        clock = [time.monotonic()]
        results, faults = await run_requests(scenario, plan, progress)
        clock.append(time.monotonic())
        await recover(scenario)
        clock.append(time.monotonic())
        leaks = await wait_until_settled(fleet, base, patient=plan.patient)
        findings = verify(results, await scenario.submissions())
        notes = metric_mismatches(await fleet.metrics(), fleet, findings)
        end_bytes = proc.resident_bytes(fleet.pid)
        clock.append(time.monotonic())
        end_s = await fleet.end()
        leaks = leaks.with_remains(proc.marked(str(fleet.tmp)), proc.files(fleet.tmp))
    notes += tuple(f"a traceback in the coordinator's log: {event}" for event in fleet.tracebacks())
    requests_s, recovery_s, settling_s = (after - before for before, after in itertools.pairwise(clock))
    times = Times(requests_s, recovery_s, settling_s, end_s)
    return Outcome(findings, leaks, start_bytes, end_bytes, times, faults, notes)


async def all_ready(scenario: Scenario) -> bool:
    """Return whether every child is READY."""
    states = {name: child["state"] for name, child in (await scenario.fleet.children()).items()}
    return states == dict.fromkeys(scenario.config.names, "READY")


async def run_requests(scenario: Scenario, plan: Plan, progress: Callable[[int], None]) -> tuple[list[Result], int]:
    """Send all requests while faults happen. Return the results and the number of faults."""
    clients = Clients(scenario.fleet.port, hang_after_s=plan.hang_after_s)
    end = time.monotonic() + (plan.seconds or float("inf"))
    # One iterator for all clients: each takes the next number.
    numbers = itertools.takewhile(lambda _: time.monotonic() < end, iter(range(plan.requests)))
    results: list[Result] = []

    async def work() -> None:
        for number in numbers:
            rng = random.Random(f"{plan.seed} {number}")
            results.append(await clients.send(scenario.request(number, rng), rng))
            progress(len(results))

    try:
        async with _operator(scenario), _faults(scenario, plan) as started:
            await asyncio.gather(*(work() for _ in range(plan.clients)))
    finally:
        await clients.close()
    return results, len(started)


@contextlib.asynccontextmanager
async def _faults(scenario: Scenario, plan: Plan) -> AsyncIterator[list[str]]:
    """Inject faults by the schedule of this seed while the context lasts; cancel the running ones at its end."""
    started: list[str] = []
    tasks: set[asyncio.Future[None]] = set()
    uninterruptible: set[asyncio.Future[None]] = set()
    kinds, weights = zip(*scenario.faults().items(), strict=True)

    async def inject() -> None:
        rng = random.Random(f"faults {plan.seed}")
        while True:
            await asyncio.sleep(rng.expovariate(1 / plan.fault_every_s))
            fault, name = rng.choices(kinds, weights)[0], rng.choice(scenario.config.names)
            own = random.Random(rng.random())
            task = asyncio.ensure_future(fault(name, own))
            tasks.add(task)
            if fault in scenario.uninterruptible:
                uninterruptible.add(task)
            started.append(fault.__name__)

    schedule = asyncio.create_task(inject())
    try:
        yield started
    finally:
        schedule.cancel()
        for task in tasks:
            if task not in uninterruptible:
                task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [end for end in ends if isinstance(end, Exception)]
    if failed:
        raise failed[0]


@contextlib.asynccontextmanager
async def _operator(scenario: Scenario) -> AsyncIterator[None]:
    """Act as the operator while the context lasts: reset children that failed, rest or were drained."""

    async def operate() -> None:
        while True:
            await asyncio.sleep(OPERATOR_INTERVAL_S)
            await repair(scenario)

    task = asyncio.create_task(operate())
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()


async def repair(scenario: Scenario) -> None:
    """Reset every child that is FAILED, RESTING or STOPPED."""
    for name, child in (await scenario.fleet.children()).items():
        if child["state"] in ("FAILED", "RESTING", "STOPPED"):
            await scenario.repair(name, child["reason"])


async def recover(scenario: Scenario) -> None:
    """Clear all faults and wait until every child is READY. Raise ChaosFailed if that takes too long."""
    await scenario.clear_faults()
    if await scenario.fleet.post("/admin/reload") != 200:
        raise ChaosFailed("a reload failed without a fault")

    async def recovered() -> bool:
        await repair(scenario)
        return await all_ready(scenario)

    try:
        await wait_until(recovered, "all children READY again", timeout_s=RECOVER_S)
    except ChaosFailed as error:
        children = (await scenario.fleet.children()).values()
        states = ", ".join(f"{child['name']} {child['state']} ({child['reason']})" for child in children)
        raise ChaosFailed(f"{error}: {states}") from None

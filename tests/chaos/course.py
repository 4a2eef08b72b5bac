"""The course of one run: start, requests and faults at once, calm, the count, the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from tests.chaos import fleet as fleets
from tests.chaos import system
from tests.chaos.clients import Clients
from tests.chaos.evidence import Findings, Result, judge
from tests.chaos.fleet import ChaosFailed, Fleet, until
from tests.chaos.leaks import Leaks, disagreements, idle, settled
from tests.chaos.world import World
from tests.support.ports import free_range

LOOK_AFTER_S = 0.5
RECOVER_S = 90.0


@dataclass(frozen=True)
class Plan:
    """How much of it. Times in seconds; `seconds` 0 is without a limit."""

    requests: int
    seconds: float
    seed: int
    clients: int
    fault_every_s: float
    hang_after_s: float
    patient: bool  # wait until connections to children have closed by themselves


@dataclass(frozen=True)
class Times:
    """How long each part took, in seconds."""

    storm: float
    recovery: float  # until all children were READY again
    settling: float  # until nothing was left, or no longer waited for
    end: float


@dataclass(frozen=True)
class Outcome:
    """Everything that the table shows."""

    findings: Findings
    leaks: Leaks
    start_bytes: int
    end_bytes: int
    times: Times
    faults: int
    notes: tuple[str, ...]  # further reasons to fail


async def run(world: World, plan: Plan, progress: Callable[[int], None]) -> Outcome:
    """Do all of it. Raises ChaosFailed if the fleet does not start, recover or end."""
    setting = world.setting
    first = free_range(2 * len(setting.names) + 1)
    child_ports = range(first + 1, first + 1 + len(setting.names))
    async with fleets.running(setting.command, setting.folder, setting.environment, first, child_ports) as fleet:
        world.fleet = fleet
        await until(lambda: all_ready(world), "all children READY", timeout_s=RECOVER_S)
        _check_sight(fleet)
        base, start_bytes = await idle(fleet), system.resident_bytes(fleet.pid)
        clock = [time.monotonic()]
        results, faults = await storm(world, plan, progress)
        clock.append(time.monotonic())
        await recover(world)
        clock.append(time.monotonic())
        leaks = await settled(fleet, base, patient=plan.patient)
        findings = judge(results, await world.submissions())
        notes = disagreements(await fleet.metrics(), fleet, findings)
        end_bytes = system.resident_bytes(fleet.pid)
        clock.append(time.monotonic())
        end_s = await fleet.end()
        leaks = leaks.with_what_is_left(system.marked(str(fleet.tmp)), system.files(fleet.tmp))
    notes += tuple(f"a traceback in the coordinator's log: {event}" for event in fleet.tracebacks())
    storm_s, recovery_s, settling_s = (after - before for before, after in itertools.pairwise(clock))
    times = Times(storm_s, recovery_s, settling_s, end_s)
    return Outcome(findings, leaks, start_bytes, end_bytes, times, faults, notes)


def _check_sight(fleet: Fleet) -> None:
    """Raise ChaosFailed if what is to be counted at the end cannot even be seen now."""
    if not set(system.children(fleet.pid).values()) <= system.marked(str(fleet.tmp)) or not system.files(fleet.tmp):
        raise ChaosFailed(f"children or run folders are not found by {fleet.tmp}, so that none could be missed")


async def all_ready(world: World) -> bool:
    """Whether every child is there and READY."""
    states = {name: child["state"] for name, child in (await world.fleet.children()).items()}
    return states == dict.fromkeys(world.setting.names, "READY")


# The storm


async def storm(world: World, plan: Plan, progress: Callable[[int], None]) -> tuple[list[Result], int]:
    """All requests, with faults all the while; the results and the number of faults."""
    clients = Clients(world.fleet.port, hang_after_s=plan.hang_after_s)
    numbers = _numbers(plan)
    results: list[Result] = []

    async def work() -> None:
        for number in numbers:
            rng = random.Random(f"{plan.seed} {number}")
            results.append(await clients.ask(world.question(number, rng), rng))
            progress(len(results))

    try:
        async with _operator(world), _faults(world, plan) as done:
            await asyncio.gather(*(work() for _ in range(plan.clients)))
    finally:
        await clients.close()
    return results, len(done)


def _numbers(plan: Plan) -> itertools.takewhile[int]:
    """The numbers of the requests, shared by all clients."""
    end = time.monotonic() + (plan.seconds or float("inf"))
    return itertools.takewhile(lambda _: time.monotonic() < end, iter(range(plan.requests)))


@contextlib.asynccontextmanager
async def _faults(world: World, plan: Plan) -> AsyncIterator[list[str]]:
    """Let things happen by the schedule of this seed; those that have begun are ended in the end."""
    done: list[str] = []
    tasks: set[asyncio.Future[None]] = set()
    unbroken: set[asyncio.Future[None]] = set()
    kinds, weights = zip(*world.faults().items(), strict=True)

    async def go_on() -> None:
        rng = random.Random(f"faults {plan.seed}")
        while True:
            await asyncio.sleep(rng.expovariate(1 / plan.fault_every_s))
            fault, name = rng.choices(kinds, weights)[0], rng.choice(world.setting.names)
            own = random.Random(rng.random())
            task = asyncio.ensure_future(fault(name, own))
            tasks.add(task)
            if fault in world.unbroken:
                unbroken.add(task)
            done.append(fault.__name__)

    schedule = asyncio.create_task(go_on())
    try:
        yield done
    finally:
        schedule.cancel()
        for task in tasks:
            if task not in unbroken:
                task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [end for end in ends if isinstance(end, Exception)]
    if failed:
        raise failed[0]


@contextlib.asynccontextmanager
async def _operator(world: World) -> AsyncIterator[None]:
    """Somebody who looks after the fleet: brings back what has failed, rests or was taken out."""

    async def look_after() -> None:
        while True:
            await asyncio.sleep(LOOK_AFTER_S)
            await mend(world)

    task = asyncio.create_task(look_after())
    try:
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()


async def mend(world: World) -> None:
    """One look at the fleet, and what an operator would do about it."""
    for name, child in (await world.fleet.children()).items():
        if child["state"] in ("FAILED", "RESTING", "STOPPED"):
            await world.mend(name, child["reason"])


async def recover(world: World) -> None:
    """No more faults: the fleet has to become whole by itself and its operator."""
    await world.calm()
    if await world.fleet.post("/admin/reload") != 200:
        raise ChaosFailed("a reload failed with nothing wrong")

    async def whole() -> bool:
        await mend(world)
        return await all_ready(world)

    try:
        await until(whole, "all children READY again", timeout_s=RECOVER_S)
    except ChaosFailed as error:
        raise ChaosFailed(f"{error}: {await _states(world.fleet)}") from None


async def _states(fleet: Fleet) -> str:
    children = (await fleet.children()).values()
    return ", ".join(f"{child['name']} {child['state']} ({child['reason']})" for child in children)

"""The faults that a round may have: begun, waited out, healed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tests.scale.fleet import COME_BACK_S, TTL_S, Cell, Hold, ScaleFleet
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Struck:
    """What a fault befalls: a cell, its logins then, and one of these with its child."""

    fleet: ScaleFleet
    cell: Cell
    logins: tuple[str, ...]
    login: str
    child: int
    pick: random.Random

    async def until_taken_over(self, *logins: str) -> None:
        """Wait until each of these logins, by default all of the cell, has a browser that began after now."""
        began_ns = time.time_ns()
        names = logins or self.logins

        def all_new() -> bool:
            return all(any(hold.first_ns > began_ns for hold in self.fleet.holds(name)) for name in names)

        left = {name: self.fleet.holds(name)[-2:] for name in names}
        await eventually(all_new, timeout_s=COME_BACK_S, what=left)
        await asyncio.sleep(0.5)  # in which an old browser would still note that it has the login

    def stop_child(self) -> None:
        os.kill(self.child, signal.SIGSTOP)

    def go_on(self) -> None:
        """Have the child go on, if it is there."""
        try:
            os.kill(self.child, signal.SIGCONT)
        except ProcessLookupError:
            return


async def cut(struck: Struck) -> None:
    struck.fleet.ways.cut(struck.cell.name)
    try:
        await struck.until_taken_over()
    finally:
        struck.fleet.ways.heal(struck.cell.name)


async def short_cut(struck: Struck) -> None:
    struck.fleet.ways.cut(struck.cell.name)
    await asyncio.sleep(TTL_S * 0.4)
    struck.fleet.ways.heal(struck.cell.name)
    await asyncio.sleep(TTL_S)


async def stop_coordinator(struck: Struck) -> None:
    struck.cell.send_signal(signal.SIGSTOP)
    try:
        await struck.until_taken_over()
    finally:
        struck.cell.send_signal(signal.SIGCONT)


async def stop_coordinator_shortly(struck: Struck) -> None:
    """About as long as the deadline lets it, so that it goes on just before, at, or after it."""
    struck.cell.send_signal(signal.SIGSTOP)
    await asyncio.sleep(TTL_S * struck.pick.uniform(0.75, 1.1))
    struck.cell.send_signal(signal.SIGCONT)
    await asyncio.sleep(TTL_S)


async def stop_coordinator_and_cut(struck: Struck) -> None:
    struck.fleet.ways.cut(struck.cell.name)
    await stop_coordinator(struck)
    await asyncio.sleep(TTL_S * 0.5)
    struck.fleet.ways.heal(struck.cell.name)


async def stop_child(struck: Struck) -> None:
    struck.stop_child()
    await asyncio.sleep(TTL_S * 1.5)
    struck.go_on()


async def stop_child_and_cut(struck: Struck) -> None:
    struck.stop_child()
    try:
        await cut(struck)
    finally:
        struck.go_on()


async def kill_coordinator(struck: Struck) -> None:
    os.kill(struck.cell.pid, signal.SIGKILL)
    await struck.until_taken_over()
    await struck.cell.end(signal.SIGKILL)
    await struck.cell.start()


async def kill_coordinator_that_comes_back(struck: Struck) -> None:
    """At once, by the same name: as an orchestrator does it."""
    await struck.cell.end(signal.SIGKILL)
    taken_over = asyncio.create_task(struck.until_taken_over())
    await struck.cell.start()
    await taken_over


async def kill_child(struck: Struck) -> None:
    os.kill(struck.child, signal.SIGKILL)
    await struck.until_taken_over(struck.login)


async def stop_store_shortly(struck: Struck) -> None:
    struck.fleet.store.send_signal(signal.SIGSTOP)
    await asyncio.sleep(TTL_S * 0.4)
    struck.fleet.store.send_signal(signal.SIGCONT)
    await asyncio.sleep(TTL_S)


async def stop_store(struck: Struck) -> None:
    struck.fleet.store.send_signal(signal.SIGSTOP)
    await asyncio.sleep(TTL_S * 2)
    taken_over = asyncio.create_task(struck.until_taken_over())
    struck.fleet.store.send_signal(signal.SIGCONT)
    await taken_over


async def kill_store(struck: Struck) -> None:
    """With its data: leases live on for their whole time."""
    struck.fleet.store.kill()
    await struck.fleet.store.start()
    await asyncio.sleep(TTL_S)


async def empty_store(struck: Struck) -> None:
    """A store that comes back with nothing in it, while cells still rely on their claims."""
    struck.fleet.store.kill()
    struck.fleet.store.empty()
    taken_over = asyncio.create_task(struck.until_taken_over())
    await struck.fleet.store.start()
    await taken_over


async def empty_store_and_cut(struck: Struck) -> None:
    """The cell that is cut off does not hear that the store knows its claims no more."""
    struck.fleet.ways.cut(struck.cell.name)
    await empty_store(struck)
    struck.fleet.ways.heal(struck.cell.name)


FAULTS: Final[Mapping[str, Callable[[Struck], Awaitable[None]]]] = {
    "cut": cut,
    "short cut": short_cut,
    "coordinator stopped": stop_coordinator,
    "coordinator stopped until about the deadline": stop_coordinator_shortly,
    "coordinator stopped, cut": stop_coordinator_and_cut,
    "coordinator killed": kill_coordinator,
    "coordinator killed, back at once": kill_coordinator_that_comes_back,
    "child stopped": stop_child,
    "child stopped, cut": stop_child_and_cut,
    "child killed": kill_child,
    "store stopped for less than the lease": stop_store_shortly,
    "store stopped for longer": stop_store,
    "store killed, back with its data": kill_store,
    "store killed, back empty": empty_store,
    "store killed, back empty, cut": empty_store_and_cut,
}


@dataclass(frozen=True)
class Row:
    """What came of one round; times in seconds from the fault on, None where the browsers went on."""

    number: int
    fault: str
    cell: str
    noticed_s: float | None
    taken_over_s: float | None
    least_gap_ms: float | None

    def __str__(self) -> str:
        def shown(value: float | None, digits: int) -> str:
            return "-" if value is None else f"{value:.{digits}f}"

        times = f"{shown(self.noticed_s, 2):>8} {shown(self.taken_over_s, 2):>10} {shown(self.least_gap_ms, 0):>8}"
        return f"{self.number:>3}  {self.fault:<45} {self.cell:<6} {times}"


HEAD: Final = f"{'':>3}  {'fault':<45} {'cell':<6} {'ended s':>8} {'taken on s':>10} {'gap ms':>8}"


async def strike(fleet: ScaleFleet, number: int, fault: str, placed: Mapping[str, str], pick: random.Random) -> Row:
    """Have a fault happen to one of the cells that serve, wait until it is over and healed, and measure it."""
    name = pick.choice(sorted(set(placed.values())))
    logins = tuple(login for login in fleet.logins if placed[login] == name)
    login = pick.choice(logins)
    before = {one: fleet.holds(one)[-1] for one in logins}
    struck = Struck(fleet, fleet.cells[name], logins, login, fleet.child_of(login), pick)
    at_ns = time.time_ns()
    await FAULTS[fault](struck)
    ended, taken_over, gaps = [], [], []
    for one in logins:
        later = [hold for hold in fleet.holds(one) if hold.first_ns > at_ns]
        if later:
            old = next(hold for hold in fleet.holds(one) if hold.instance == before[one].instance)
            ended.append((old.last_ns - at_ns) / 1e9)
            taken_over.append((later[0].first_ns - at_ns) / 1e9)
            gaps.append(least_gap_ms([old, *later]))
    return Row(number, fault, name, max(ended, default=None), max(taken_over, default=None), min(gaps, default=None))


def least_gap_ms(holds: list[Hold]) -> float:
    """The least time between a browser's first note and the last of all before it, in milliseconds."""
    gaps, last_ns = [], holds[0].last_ns
    for hold in holds[1:]:
        gaps.append((hold.first_ns - last_ns) / 1e6)
        last_ns = max(last_ns, hold.last_ns)
    return min(gaps)

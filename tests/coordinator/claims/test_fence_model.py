"""The fence as a model: cells on clocks of their own, delays, losses, pauses; never two browsers on one login.

The keeper is the real one, each on an event loop whose clock the test turns. Store, network, children's guards and
browsers are simple models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from contract.claim_deadline import LOOK_INTERVAL_S, ClaimDeadlineFile
from coordinator.claims.keeper import END_S, ClaimKeeper
from coordinator.claims.shared import SharedSettings
from coordinator.claims.store import StoreUnreachable, View
from coordinator.supervision.child import Child
from coordinator.supervision.lifecycle import Phase, State
from tests.coordinator.claims.cells import NothingElse
from tests.coordinator.claims.memory_store import Memory, MemoryStore
from tests.support.manual_loop import ManualLoop
from tests.support.size import size

TTL_S = 4
LOGIN = "ann"
STEP_S = 0.01
T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """From `at` on, for `for_s` seconds, all of it in true time, one party of a cell is cut off or stands still."""

    cell: int
    what: str
    at: float
    for_s: float


@dataclass(frozen=True)
class World:
    """Clocks' speeds, the network's delay, and faults."""

    store_speed: float
    speeds: tuple[float, float]
    delay_s: float
    end_s: float
    faults: tuple[Fault, ...]
    emptied_at: float | None = None
    """When the store loses all that it holds, in true time."""


class Deadline:
    """The file with the deadline, without the file."""

    def __init__(self) -> None:
        self.at = 0.0

    def extend(self, deadline_s: float) -> None:
        self.at = max(self.at, deadline_s)

    def end(self) -> None:
        self.at = 0.0

    def close(self) -> None:
        self.end()


class FarStore(MemoryStore):
    """A store behind a network: each way takes its time, and a call that does not come back in time may be done."""

    def __init__(self, memory: Memory, delay_s: float) -> None:
        super().__init__(memory)
        self.delay_s = delay_s

    async def _far(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(TTL_S / 5):
                await asyncio.sleep(self.delay_s)
                answer = await call
                await asyncio.sleep(self.delay_s)
                self._reach()
                return answer
        except TimeoutError:
            raise StoreUnreachable("no answer in time") from None
        finally:
            call.close()

    async def register(self, cell: str, shared: SharedSettings, room: int) -> None:
        await self._far(super().register(cell, shared, room))

    async def renew(self) -> None:
        await self._far(super().renew())

    async def view(self) -> View:
        return await self._far(super().view())

    async def claim(self, login: str, fingerprint: str | None) -> int | None:
        return await self._far(super().claim(login, fingerprint))

    async def release(self, login: str) -> None:
        await self._far(super().release(login))

    async def revoke(self) -> None:
        await self._far(super().revoke())


class Browser:
    """A child of one login as a claim sees it: its browser ends a while after it is told to."""

    profile_gone = False
    has_note = False

    def __init__(self) -> None:
        self.claimed = self.running = False
        self.ends_in_s: float | None = None
        self.run = None

    @property
    def profile(self) -> Any:
        return type("Profile", (), {"fingerprint": ""})

    @property
    def clean(self) -> bool:
        return not self.running

    @property
    def phase(self) -> Phase:
        return Phase(State.READY if self.running else State.STANDBY)

    @property
    def can_start(self) -> bool:
        return self.claimed and not self.running

    def grant(self, _note: object) -> None:
        self.claimed = self.running = True
        self.ends_in_s = None

    def note(self) -> None:
        return None

    def end(self, in_s: float) -> None:
        if self.running and self.ends_in_s is None:
            self.ends_in_s = in_s

    def lose_claim(self) -> None:
        self.claimed = False
        self.told = True

    give_up = lose_claim

    def fence(self) -> None:
        self.told = True

    told = False

    def held_by(self, _cell: str | None) -> None:
        pass


@dataclass
class Cell:
    """A coordinator and its child, each of which may stand still, on one clock."""

    loop: ManualLoop
    speed: float
    store: FarStore
    browser: Browser
    deadline: Deadline
    keeper: ClaimKeeper
    next_guard: float = 0.0
    faults: set[str] = field(default_factory=set)

    def step(self, now: float, end_s: float) -> None:
        own = now * self.speed
        self.store.away = "cut" in self.faults
        if "keeper" not in self.faults and own > self.loop.now:
            # At once, not from timer to timer: one that has stood still sees what time it is, whatever it does first.
            self.loop.now = own
            self.loop.turn()
        if "child" not in self.faults and own >= self.next_guard:
            self.next_guard = own + LOOK_INTERVAL_S
            if own >= self.deadline.at:
                self.browser.end(end_s)
        if self.browser.told:
            self.browser.told = False
            self.browser.end(end_s)
        if self.browser.ends_in_s is not None:
            self.browser.ends_in_s -= STEP_S
            if self.browser.ends_in_s <= 0:
                self.browser.running, self.browser.ends_in_s = False, None


def overlaps(world: World, *, holds_s: float | None = None, until_s: float = 24.0) -> int:
    """Return in how many steps two browsers had the login."""
    now = 0.0
    memory = Memory(lambda: now * world.store_speed)
    cells = []
    for number, speed in enumerate(world.speeds):
        loop = ManualLoop()
        store, browser, deadline = FarStore(memory, world.delay_s * speed), Browser(), Deadline()
        claimants = type("Claimants", (), {"claimants": lambda _, browser=browser: {LOGIN: cast("Child", browser)}})()
        keeper = ClaimKeeper(
            store,
            claimants,
            cell=f"cell-{number}",
            shared=SharedSettings(TTL_S),
            room=5,
            deadline_file=cast("ClaimDeadlineFile", deadline),
            handover=NothingElse(),
            clock=loop.time,
            holds_s=holds_s,
        )
        cells.append(Cell(loop, speed, store, browser, deadline, keeper))
    tasks = [cell.loop.create_task(cell.keeper.run()) for cell in cells]
    twice = ran = 0
    try:
        while now < until_s:
            now += STEP_S
            if world.emptied_at is not None and now - STEP_S < world.emptied_at <= now:
                memory.lose_all()
            for number, cell in enumerate(cells):
                cell.faults = {f.what for f in world.faults if f.cell == number and f.at <= now < f.at + f.for_s}
                if {"keeper", "child"} <= cell.faults:
                    cell.faults.discard("child")  # both of them: that is not covered
                cell.step(now, world.end_s)
            running = sum(cell.browser.running for cell in cells)
            twice += running > 1
            ran += running > 0
        assert ran, "the login never ran at all"
        for task in tasks:
            assert not task.done(), task
    finally:
        for cell, task in zip(cells, tasks, strict=True):
            task.cancel()
            cell.loop.turn()
            cell.loop.close()
    return twice


speeds = st.floats(0.99, 1.01)  # of two, one is at most 2 % faster
faults = st.builds(
    Fault,
    cell=st.integers(0, 1),
    what=st.sampled_from(["cut", "keeper", "child"]),
    at=st.floats(0.5, 18.0),
    for_s=st.floats(0.1, 12.0),
)
worlds = st.builds(
    World,
    store_speed=speeds,
    speeds=st.tuples(speeds, speeds),
    delay_s=st.sampled_from([0.0, 0.01, 0.1, 0.35]),
    end_s=st.floats(0.0, END_S),
    faults=st.lists(faults, max_size=5).map(tuple),
    emptied_at=st.none() | st.floats(3.0, 16.0),
)
CUT = World(1.01, (0.99, 0.99), 0.01, END_S, (Fault(0, "cut", 3.0, 12.0), Fault(0, "child", 3.0, 12.0)))
EMPTIED = World(1.01, (0.99, 0.99), 0.01, END_S, (Fault(0, "cut", 3.0, 12.0), Fault(1, "cut", 15.0, 12.0)), 3.1)


@given(worlds)
@example(CUT)
@example(World(1.0, (1.0, 1.0), 0.35, 0.0625, (Fault(0, "keeper", 2.0, 6.0),)))
@example(EMPTIED)
@settings(max_examples=size(20, 400), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_two_browsers_have_a_login(world: World) -> None:
    assert overlaps(world) == 0


@pytest.mark.parametrize("cut", [Fault(0, "cut", 3.0, 12.0), Fault(0, "keeper", 3.0, 12.0)])
def test_where_a_claim_is_relied_on_for_too_long_the_model_shows_it(cut: Fault) -> None:
    world = World(1.0, (1.0, 1.0), 0.01, 0.02, (cut,))
    assert overlaps(world) == 0
    assert overlaps(world, holds_s=1.25 * TTL_S) > 0

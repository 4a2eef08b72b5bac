"""What a cell does with its claims: real supervisors and fake children, claims in memory."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from coordinator.claims.keeper import WAIT_FOR_SHARES, Trouble
from coordinator.claims.shared import SharedSettings
from coordinator.errors import ActionRefused
from coordinator.supervision.lifecycle import Event, Reason, State
from tests.coordinator.claims.cells import TTL_S, cell, memory, never_two
from tests.support.waiting import eventually

LOGINS = ["a", "b", "c", "d", "e", "f"]


async def test_one_cell_serves_all(tmp_path: Path) -> None:
    async with cell(tmp_path, memory(), "x", LOGINS) as x:
        assert await x.until_serving(6) == set(LOGINS)
        assert x.keeper.status.held == 6


async def test_a_second_cell_gets_its_share_and_no_login_is_in_both(tmp_path: Path) -> None:
    store = memory()
    async with cell(tmp_path, store, "x", LOGINS) as x:
        await x.until_serving(6)
        async with cell(tmp_path, store, "y", LOGINS) as y:

            def shared() -> bool:
                never_two((x, y))
                return len(x.serving()) == 3 and len(y.serving()) == 3

            await eventually(shared, what=lambda: (x.serving(), y.serving()))
            assert x.serving() | y.serving() == set(LOGINS)

            def elsewhere() -> dict[str, tuple[Reason | None, str | None]]:
                listed = x.fleet.supervisor.snapshot()
                return {s.name: (s.reason, s.held_by) for s in listed if s.name in y.serving()}

            by_y = dict.fromkeys(y.serving(), (Reason.CLAIMED_ELSEWHERE, "y"))
            await eventually(lambda: elsewhere() == by_y, what=elsewhere)

        # It ended in good order: nobody waits for the end of a lease.
        await x.until_serving(6)


async def test_a_cell_with_another_time_of_leases_claims_nothing_before_the_others_have_ended(tmp_path: Path) -> None:
    store = memory()
    other = SharedSettings(TTL_S + 1)
    async with contextlib.AsyncExitStack() as stack:
        async with cell(tmp_path, store, "x", LOGINS) as x:
            await x.until_serving(6)
            y = await stack.enter_async_context(cell(tmp_path, store, "y", LOGINS, shared=other))
            await eventually(lambda: y.keeper.status.reason is Trouble.SETTINGS_DIFFER)
            said = f"its CLAIM_TTL_S is {TTL_S + 1}, that of x is {TTL_S}, and all must have the same"
            assert said in str(y.keeper.status.trouble)
            assert y.keeper.status.public()["reason"] == "settings_differ"
            assert (x.running(), y.running()) == (set(LOGINS), set())
            # What had its claims from the store comes back to it in the same way.
            x.store.away = True
            await eventually(lambda: not x.running() and x.keeper.status.reason is Trouble.UNREACHABLE)
            await y.until_serving(6)
            assert y.keeper.status.reason is None
            x.store.away = False
            await eventually(lambda: x.keeper.status.reason is Trouble.SETTINGS_DIFFER)
            assert not x.running()
        assert y.serving() == set(LOGINS)


async def test_a_cell_that_can_keep_no_session_claims_nothing_and_keeps_what_runs(tmp_path: Path) -> None:
    """Not even for a moment: the others neither wait for it nor give logins up to it."""
    store = memory()
    async with (
        cell(tmp_path, store, "x", LOGINS) as x,
        cell(tmp_path, store, "y", LOGINS, unusable="Read-only file system") as y,
    ):
        await x.until_serving(6)
        said = "This cell claims nothing: SESSION_DIR cannot be used: Read-only file system."
        await eventually(lambda: y.keeper.status.trouble == said)
        shown = y.keeper.status.public()
        assert (shown["reason"], shown["store_reached"], shown["held"]) == ("sessions_unusable", True, 0)
        starts = {name: child.generation for name, child in x.fleet.supervisor.claimants().items()}
        y.handover.why = None
        await eventually(lambda: len(x.serving()) == len(y.serving()) == 3)
        assert y.keeper.status.public()["reason"] is None
        # It breaks while logins run: they stay, and it is left no others.
        y.handover.why = "No space left on device"
        mine, other = y.serving(), x.serving()
        await eventually(lambda: "y" not in store.cells)
        assert y.keeper.status.public()["reason"] == "sessions_unusable"
        ended = next(iter(mine))
        y.fleet.supervisor.claimants()[ended].fire(Event.DRAIN, Reason.DRAINED)
        await eventually(lambda: ended not in y.serving())
        for one in sorted(other):
            assert x.fleet.supervisor.claimants()[one].generation == starts[one]
        assert y.serving() == mine - {ended}
        y.handover.why = None
        await eventually(lambda: set(store.cells) == {"x", "y"})


async def test_the_logins_of_a_dead_cell_are_taken_over(tmp_path: Path) -> None:
    store = memory()
    async with cell(tmp_path, store, "x", LOGINS) as x, cell(tmp_path, store, "y", LOGINS) as y:
        await eventually(lambda: len(x.serving()) == len(y.serving()) == 3)
        y.store.away = True
        mine = y.serving()

        def moved() -> bool:
            never_two((x, y))
            return x.serving() == set(LOGINS)

        await eventually(moved, what=lambda: (x.serving(), y.serving()))
        assert y.serving() == set()
        assert y.keeper.status.trouble
        y.store.away = False

        def back() -> bool:
            never_two((x, y))
            return len(x.serving()) == len(y.serving()) == 3

        await eventually(back, what=lambda: (x.serving(), y.serving()))
        assert y.keeper.status.lost == len(mine)


async def test_a_store_that_loses_its_data_gives_no_login_of_a_cell_away_that_has_not_heard_of_it(
    tmp_path: Path,
) -> None:
    store = memory()
    async with cell(tmp_path, store, "x", LOGINS) as x, cell(tmp_path, store, "y", LOGINS) as y:
        await eventually(lambda: len(x.serving()) == len(y.serving()) == 3)
        mine = y.running()
        y.store.away = True
        store.lose_all()
        await eventually(lambda: "was empty" in (x.keeper.status.trouble or ""))
        assert y.running() == mine

        def moved() -> bool:
            never_two((x, y))
            return x.serving() == set(LOGINS)

        await eventually(moved, what=lambda: (x.serving(), y.serving()))


async def test_a_login_whose_claim_somebody_deletes_ends(tmp_path: Path) -> None:
    store = memory()
    async with cell(tmp_path, store, "x", ["a", "b"]) as x:
        await x.until_serving(2)
        first = x.fleet.supervisor.child("a").generation
        del store.claims["a"]
        await eventually(lambda: x.fleet.status("a").state is not State.READY)
        await x.until_serving(2)
        assert x.fleet.supervisor.child("a").generation == first + 1
        assert x.fleet.supervisor.child("b").generation == 1


async def test_a_failed_login_stays_so_in_the_next_cell(tmp_path: Path) -> None:
    store = memory()
    async with cell(tmp_path, store, "x", ["a"]) as x:
        x.fleet.plan("a", unready="login_expired")
        await x.fleet.until("a", State.FAILED)
        await eventually(lambda: ("note", "a") in store.values)
        x.store.away = True
        await eventually(lambda: "a" not in store.claims or x.fleet.status("a").state is State.STANDBY)
        async with cell(tmp_path, store, "y", ["a"]) as y:
            assert (await y.fleet.until("a", State.FAILED)).reason is Reason.LOGIN_EXPIRED
            assert y.fleet.notes("a", "starts") == []
            y.fleet.supervisor.reset("a")
            await y.until_serving(1)
            await eventually(lambda: ("note", "a") not in store.values)


async def test_an_operators_drain_moves_with_the_login(tmp_path: Path) -> None:
    store = memory()
    async with cell(tmp_path, store, "x", ["a"]) as x:
        await x.until_serving(1)
        x.fleet.supervisor.drain("a")
        await x.fleet.until("a", State.STOPPED)
        await eventually(lambda: ("note", "a") in store.values)
    async with cell(tmp_path, store, "y", ["a"]) as y:
        await y.fleet.until("a", State.STOPPED)
        await asyncio.sleep(0.3)
        assert y.fleet.notes("a", "starts") == []


async def test_no_more_than_it_has_room_for(tmp_path: Path) -> None:
    store = memory()
    async with cell(tmp_path, store, "x", LOGINS, room=2) as x:
        await x.until_serving(2)
        async with cell(tmp_path, store, "y", LOGINS, room=20) as y:
            await y.until_serving(4)
            await x.until_serving(2)
            never_two((x, y))


# Of what it waits for, that nothing happens is all that no other test shows.
@pytest.mark.slow
async def test_cells_that_see_different_profiles_come_to_rest(tmp_path: Path) -> None:
    store = memory()
    async with cell(tmp_path, store, "x", LOGINS) as x, cell(tmp_path, store, "y", LOGINS[:-1]) as y:

        def all_served() -> bool:
            never_two((x, y))
            return len(x.serving()) + len(y.serving()) == len(LOGINS)

        await eventually(all_served, what=lambda: (x.serving(), y.serving()))
        # Longer than it takes until a login counts as one that nobody wants.
        await asyncio.sleep(2 * WAIT_FOR_SHARES * TTL_S)
        before = [len(one.fleet.notes(login, "starts")) for one in (x, y) for login in LOGINS]
        await asyncio.sleep(2 * WAIT_FOR_SHARES * TTL_S)
        assert all_served()
        assert before == [len(one.fleet.notes(login, "starts")) for one in (x, y) for login in LOGINS]


async def test_an_operators_actions_are_refused_where_the_login_is_not(tmp_path: Path) -> None:
    store = memory()
    async with cell(tmp_path, store, "x", LOGINS) as x, cell(tmp_path, store, "y", LOGINS) as y:
        await eventually(lambda: len(x.serving()) == len(y.serving()) == 3)
        login = min(y.serving())
        await eventually(lambda: x.fleet.status(login).held_by == "y")
        supervisor = x.fleet.supervisor
        for act in (supervisor.restart, supervisor.drain, supervisor.reset, supervisor.check_action):
            with pytest.raises(ActionRefused, match="does not run here: cell 'y' has the claim"):
                act(login)
        with pytest.raises(ActionRefused):
            supervisor.renew(login, {"cookies": [], "origins": []})
        assert login in y.serving()

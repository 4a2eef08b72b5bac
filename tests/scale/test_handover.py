"""What goes with a claim: it is released only when nothing of its browser is left, and its session is the holder's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest

from contract import child_environment
from contract.sessions.grant import Grant, read_grant
from contract.sessions.key import SessionKey
from contract.sessions.record import SavedSession
from coordinator.claims.etcd import EtcdClaims
from coordinator.claims.sessions import SESSION
from tests.scale.faults import least_gap_ms
from tests.scale.fleet import COME_BACK_S, Cell, ScaleFleet, scale_fleet
from tests.support.waiting import HANG_LIMIT_S, eventually, eventually_async

pytestmark = pytest.mark.scale

LOGINS = [f"login-{number}" for number in range(4)]
CLOSE_S = 1.5


def release_times_ns(cell: Cell) -> dict[str, int]:
    """When the cell said last that it has released the claim of each login."""
    events = cell.events("claim_released")
    return {event["child"]: int(datetime.fromisoformat(event["timestamp"]).timestamp() * 1e9) for event in events}


async def test_a_claim_is_released_only_when_nothing_of_its_browser_is_left(tmp_path: Path) -> None:
    """The browser takes its time while its child ends, and outlives it: the coordinator has to end it first."""
    async with scale_fleet(tmp_path, in_namespaces=False, logins=LOGINS, cells=["east", "west"]) as fleet:
        for login in LOGINS:
            fleet.plan(login, holds_on=True, close_s=CLOSE_S)
        east, west = fleet.cells["east"], fleet.cells["west"]
        await west.start()
        await fleet.until_shared_out(["west"])
        of_west = {login: fleet.holds(login)[-1].instance for login in LOGINS}
        await east.start()
        placed = await fleet.until_shared_out(["east", "west"])
        moved = [login for login in LOGINS if placed[login] == "east"]
        assert len(moved) == 2
        released = release_times_ns(west)
        assert sorted(released) == sorted(moved)
        for login in moved:
            old = next(hold for hold in fleet.holds(login) if hold.instance == of_west[login])
            draining = [event for event in west.events("child_state") if event["child"] == login][-3:]
            began = min(datetime.fromisoformat(event["timestamp"]).timestamp() for event in draining)
            assert old.last_ns / 1e9 - began > CLOSE_S * 0.9, "the browser has ended at once: nothing is shown"
            assert old.last_ns < released[login]

        # The same where a child is killed, and where the whole cell ends in good order.
        os.kill(fleet.child_of(moved[0]), signal.SIGKILL)
        before = fleet.holds(moved[0])[-1].instance
        await eventually(lambda: fleet.holds(moved[0])[-1].instance != before)
        await fleet.until_shared_out(["east", "west"])
        await east.end()
        assert await fleet.until_shared_out(["west"]) == dict.fromkeys(LOGINS, "west")
        await west.end()
        gaps = {login: least_gap_ms(fleet.holds(login)) for login in moved}
        assert min(gaps.values()) >= 0, gaps


@contextlib.asynccontextmanager
async def connected(fleet: ScaleFleet, port: int) -> AsyncIterator[EtcdClaims]:
    tls = fleet.store.tls
    store = EtcdClaims(
        [f"https://127.0.0.1:{port}"],
        timeout_s=HANG_LIMIT_S,
        ca_file=tls.authority.file,
        cert_file=tls.cert_file,
        key_file=tls.key_file,
    )
    try:
        yield store
    finally:
        await store.close()


def grant_of(fleet: ScaleFleet, login: str) -> Grant:
    """What the login's child was told of its session."""
    grant = read_grant(Path(fleet.told(login, child_environment.RUN_DIR)))
    assert grant is not None
    return grant


def save(grant: Grant, who: str) -> None:
    grant.save("ab", {"cookies": [], "origins": [], "who": who}, 1.0)


async def test_a_cell_that_has_lost_its_lease_never_changes_the_session_in_the_store(tmp_path: Path) -> None:
    """Also where its child has saved one after that: here the test does, in place of a child that passes its fence."""
    login = "login-0"
    async with scale_fleet(tmp_path, in_namespaces=False, logins=[login], cells=["east", "west"]) as fleet:
        east, west = fleet.cells["east"], fleet.cells["west"]
        await east.start()
        await fleet.until_shared_out(["east"])
        await west.start()
        key = SessionKey.from_file(fleet.session_key)
        seen: list[SavedSession] = []

        async def kept(store: EtcdClaims) -> str | None:
            data = await store.read(SESSION, login)
            if data is not None:
                seen.append(SavedSession.from_bytes(data, key))
            return str(seen[-1].state["who"]) if seen else None

        async def until_kept(store: EtcdClaims, who: str) -> None:
            async def look() -> bool:
                return await kept(store) == who

            await eventually_async(look)

        async with connected(fleet, fleet.store.port) as store:
            of_east = grant_of(fleet, login)
            save(of_east, "east")
            await until_kept(store, "east")

            fleet.ways.cut("east")
            before = fleet.holds(login)[-1].instance
            await eventually(lambda: fleet.holds(login)[-1].instance != before)
            save(of_east, "east, too late")
            save(grant_of(fleet, login), "west")
            await until_kept(store, "west")

            # Back again, it gets the login back, as by its name it comes first; and then it ends in good order.
            fleet.ways.heal("east")

            async def moved_back() -> bool:
                await kept(store)
                return (await fleet.placed(["east", "west"]))[login] == ["east"]

            await eventually_async(moved_back, timeout_s=COME_BACK_S)
            await east.end()
            await eventually_async(lambda: kept(store))
            assert await kept(store) == "west"
            local = of_east.file().read()
            assert local is not None
            assert local.state["who"] == "west", "it would have opened the older session"
            whose = [session.state["who"] for session in seen]
            assert "east, too late" not in whose
            tokens = [session.token for session in seen]
            assert tokens == sorted(tokens)
        await asyncio.gather(east.end(), west.end())

"""Saved sessions go with the claim: the next holder opens what the last one saved, and never what is older."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from contract.sessions.grant import read_grant
from contract.sessions.key import BINARY
from coordinator.claims.sessions import SESSION, SessionHandover, SessionsInClaims
from coordinator.claims.shared import SharedSettings
from coordinator.claims.store import LeaseGone
from coordinator.sessions import Sessions
from coordinator.sessions.mirror import Mirror
from tests.coordinator.claims.cells import memory
from tests.coordinator.claims.memory_store import Memory, MemoryStore
from tests.support import age

LOGIN, PROFILE = "ann", "ab" * 32


@dataclass
class Cell:
    store: MemoryStore
    sessions: Sessions
    handover: SessionHandover
    run_dir: Path

    async def take(self) -> bool:
        """Claim the login, and what goes with it."""
        number = await self.store.claim(LOGIN, None)
        assert number is not None
        return await self.handover.take(LOGIN, number)

    async def give_back(self) -> bool:
        done = await self.handover.leave(LOGIN)
        self.handover.forget(LOGIN)
        await self.store.release(LOGIN)
        return done

    def start(self) -> None:
        self.sessions.grant(LOGIN, self.run_dir)

    def save(self, cookie: str) -> None:
        """Save as a child does, of the start that was granted last."""
        grant = read_grant(self.run_dir)
        assert grant is not None
        grant.save(PROFILE, {"cookies": [cookie], "origins": []}, 1.0)

    def opened(self) -> object:
        """What a start would open."""
        grant = read_grant(self.run_dir)
        assert grant is not None
        session = grant.file().read()
        return session and session.state["cookies"]


async def cell(tmp_path: Path, shared: Memory, name: str) -> Cell:
    key = tmp_path / "key"
    if not key.exists():
        age.new_key(key)
    store = MemoryStore(shared)
    await store.register(name, SharedSettings(60), 5)
    copies = SessionsInClaims(store, asyncio.get_running_loop())
    sessions = Sessions(tmp_path / name / "sessions", key, Mirror(lambda: copies), by_claim=True)
    run_dir = tmp_path / name / "run"
    run_dir.mkdir(parents=True)
    return Cell(store, sessions, SessionHandover(sessions), run_dir)


async def test_the_next_holder_opens_what_the_last_one_saved(tmp_path: Path) -> None:
    shared = memory()
    a, b = await cell(tmp_path, shared, "a"), await cell(tmp_path, shared, "b")
    assert await a.take()
    a.start()
    a.save("first")
    assert await a.give_back()
    assert shared.values[SESSION, LOGIN].startswith(BINARY)
    assert b"first" not in shared.values[SESSION, LOGIN]

    assert await b.take()
    b.start()
    assert b.opened() == ["first"]
    b.save("second")
    assert await b.give_back()

    assert await a.take()
    a.start()
    assert a.opened() == ["second"]


async def test_what_an_earlier_holder_saved_and_never_stored_is_older_than_what_a_later_one_did(
    tmp_path: Path,
) -> None:
    shared = memory()
    a, b = await cell(tmp_path, shared, "a"), await cell(tmp_path, shared, "b")
    assert await a.take()
    for number in range(5):  # many starts, so that it has the higher number of starts
        a.start()
        a.save(f"a{number}")
    await a.store.revoke()  # the machine is gone before it could be stored

    assert await b.take()
    b.start()
    assert b.opened() is None
    b.save("b0")
    assert await b.give_back()

    await a.store.register("a", SharedSettings(60), 5)
    assert await a.take()
    a.start()
    assert a.opened() == ["b0"]


async def test_of_two_cells_one_that_saved_alone_keeps_what_it_has(tmp_path: Path) -> None:
    shared = memory()
    a, b = await cell(tmp_path, shared, "a"), await cell(tmp_path, shared, "b")
    assert await a.take()
    a.start()
    a.save("kept")
    await a.store.revoke()
    assert await b.take()  # and saves nothing
    b.start()
    assert await b.give_back()
    await a.store.register("a", SharedSettings(60), 5)
    assert await a.take()
    a.start()
    assert a.opened() == ["kept"]


async def test_who_has_lost_the_claim_stores_nothing(tmp_path: Path) -> None:
    shared = memory()
    a, b = await cell(tmp_path, shared, "a"), await cell(tmp_path, shared, "b")
    assert await a.take()
    a.start()
    a.save("stored")
    assert await a.handover.leave(LOGIN)
    stored = shared.values[SESSION, LOGIN]
    a.save("late")
    await a.store.revoke()
    assert await b.take()
    assert not await a.handover.leave(LOGIN)
    assert shared.values[SESSION, LOGIN] == stored
    try:
        await a.store.write(SESSION, LOGIN, b"late")
    except LeaseGone:
        pass
    else:
        raise AssertionError("it was written")


async def test_without_the_store_nothing_is_started(tmp_path: Path) -> None:
    shared = memory()
    a = await cell(tmp_path, shared, "a")
    assert await a.take()
    a.start()
    a.save("stored")
    assert await a.give_back()
    number = await a.store.claim(LOGIN, None)
    assert number is not None
    a.store.away = True
    assert not await a.handover.take(LOGIN, number)
    assert a.sessions.warnings() == ["The saved session of ann is not fetched: the store in memory is away."]
    a.store.away = False
    assert await a.handover.take(LOGIN, number)
    assert a.sessions.warnings() == []


async def test_a_copy_that_cannot_be_read_is_told_of_and_nothing_is_started(tmp_path: Path) -> None:
    shared = memory()
    a = await cell(tmp_path, shared, "a")
    shared.values[SESSION, LOGIN] = b"junk"
    assert not await a.take()
    (line,) = a.sessions.warnings()
    assert line.startswith("The saved session of ann ")

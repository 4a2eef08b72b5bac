"""Several cells in one process: real supervisors over fake children, with claims in one store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.claim_deadline import ClaimDeadlineFile, boottime
from coordinator.claims.keeper import ClaimKeeper
from coordinator.claims.shared import SharedSettings
from coordinator.supervision.lifecycle import State
from tests.coordinator.claims.memory_store import Memory, MemoryStore
from tests.coordinator.fleet import Fleet, prepared_fleet
from tests.support.waiting import eventually

TTL_S = 2
SHARED = SharedSettings(TTL_S)


class NothingElse:
    """A handover of nothing; `why` says why it cannot be used."""

    def __init__(self) -> None:
        self.why: str | None = None

    async def unusable(self) -> str | None:
        return self.why

    async def take(self, login: str, claim: int) -> bool:
        return True

    async def leave(self, login: str) -> bool:
        return True

    def forget(self, login: str) -> None:
        pass


@dataclass
class Cell:
    name: str
    fleet: Fleet
    store: MemoryStore
    keeper: ClaimKeeper
    task: asyncio.Task[None]
    handover: NothingElse

    def running(self) -> set[str]:
        """The logins that a browser may use here."""
        return {name for name, child in self.fleet.supervisor.claimants().items() if not child.clean}

    def serving(self) -> set[str]:
        return {status.name for status in self.fleet.supervisor.snapshot() if status.state is State.READY}

    async def until_serving(self, count: int) -> set[str]:
        await eventually(
            lambda: len(self.serving()) == count, what=lambda: (self.name, self.fleet.supervisor.snapshot())
        )
        return self.serving()


@contextlib.asynccontextmanager
async def cell(
    folder: Path,
    memory: Memory,
    name: str,
    logins: Iterable[str],
    *,
    room: int = 20,
    shared: SharedSettings = SHARED,
    unusable: str | None = None,
    **changes: Any,
) -> AsyncIterator[Cell]:
    """A coordinator's part of supervision and claims; ended in good order, unless its task was cancelled."""
    home = folder / name
    home.mkdir()
    file = ClaimDeadlineFile(home / "deadline")
    async with prepared_fleet(home, needs_claims=True, max_children=room, **changes) as fleet:
        store, handover = MemoryStore(memory), NothingElse()
        handover.why = unusable
        keeper = ClaimKeeper(
            store, fleet.supervisor, cell=name, shared=shared, room=room, deadline_file=file, handover=handover
        )
        await fleet.start([fleet.profile(login) for login in logins])
        task = asyncio.create_task(keeper.run())
        try:
            yield Cell(name, fleet, store, keeper, task, handover)
            assert not task.done() or task.cancelled(), task.exception()
        finally:
            await fleet.supervisor.stop()
            if not task.cancelled():
                await keeper.close(5.0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def memory() -> Memory:
    return Memory(boottime)


def never_two(cells: Iterable[Cell]) -> None:
    """No login has a browser in two cells now."""
    seen: dict[str, str] = {}
    for one in cells:
        for login in one.running():
            assert login not in seen, (login, seen[login], one.name)
            seen[login] = one.name

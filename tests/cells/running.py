"""Three cells over one folder of profiles, as processes over fake children, and what their pages were given."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.shard import Shard
from tests.coordinator.program import KEY, Running, coordinator, write_profile
from tests.coordinator.proxy.proxied import chat
from tests.support.json_lines import json_lines
from tests.support.waiting import eventually

COUNT = 3


def names_of(index: int, logins: int, count: int = COUNT) -> list[str]:
    """The first names that are in this share."""
    shard = Shard(index, count)
    return [name for name in (f"login-{number}" for number in range(1000)) if shard.holds(name)][:logins]


@dataclass
class Cell:
    """One running coordinator, the logins of its share, and what its children noted."""

    running: Running
    names: list[str]

    @property
    def port(self) -> int:
        return self.running.port

    def submitted(self) -> list[str]:
        """The SHA-256 of each prompt that a page of this cell was given, in no order."""
        folder = self.running.evidence
        entries = [entry for name in self.names for entry in json_lines(folder / f"{name}.ledger")]
        return [entry["digest"] for entry in entries if "digest" in entry]

    async def in_flight(self) -> float:
        return (await self.running.metrics()).sum("tabfleet_leases_held")

    async def queued(self) -> float:
        return (await self.running.metrics()).sum("tabfleet_queue_length")

    async def keep_busy(self, prompt: str, until: Path) -> list[asyncio.Task[Any]]:
        """Give each page a prompt whose answer ends when this file is there; return when they all have it."""
        body = json.loads(chat(prompt, fake={"hold": str(until)}))
        tasks = [
            asyncio.create_task(self.running.http.post("/v1/chat/completions", json=body, headers=KEY))
            for _ in self.names
        ]
        await eventually(lambda: self.submitted().count(digest(prompt)) == len(self.names))
        return tasks


@contextlib.asynccontextmanager
async def three_cells(tmp_path: Path, *, logins: int) -> AsyncIterator[list[Cell]]:
    """Cells that are all ready, with so many logins each."""
    profiles = tmp_path / "profiles"
    names = [names_of(index, logins) for index in range(COUNT)]
    for name in itertools.chain.from_iterable(names):
        write_profile(profiles, name)
    async with contextlib.AsyncExitStack() as stack:
        cells = []
        for index in range(COUNT):
            folder = tmp_path / f"cell-{index}"
            folder.mkdir()
            given = {"LOCAL_PROFILE_DIR": str(profiles), "SHARD": f"{index}/{COUNT}", "CELL": f"cell-{index}"}
            cells.append(Cell(await stack.enter_async_context(coordinator(folder, **given)), names[index]))
        for cell in cells:
            await cell.running.until_ready(*cell.names)
        yield cells


def digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()

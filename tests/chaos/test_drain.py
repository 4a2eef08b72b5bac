"""The end under load: running streams finish, nothing else gets in, nothing is left.

Streams beyond the limit, and a second signal: tests/coordinator/test_main.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from tests.chaos import fleet as fleets
from tests.chaos import system
from tests.chaos.course import all_ready
from tests.chaos.fake_world import FakeWorld
from tests.chaos.fleet import Fleet, until
from tests.chaos.sources import LocalSource
from tests.support.ports import free_range

CHILDREN = 20
DRAIN_LIMIT_S = 25.0
CHAT = "/v1/chat/completions"


def body(prompt: str, **fake: object) -> dict[str, object]:
    return {"model": "fake", "stream": True, "messages": [{"role": "user", "content": prompt}], "fake": fake}


class Stream:
    """One streamed answer that has begun, and is read to its end beside everything else."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.rest = asyncio.ensure_future(answer.read())

    async def events(self) -> list[str]:
        return [event.removeprefix("data: ") for event in (await self.rest).decode().split("\n\n") if event]

    @classmethod
    async def begin(cls, fleet: Fleet, prompt: str, **fake: object) -> Stream:
        answer = await fleet.http.post(CHAT, json=body(prompt, **fake))
        assert answer.status == 200, await answer.text()
        return cls(answer)


@contextlib.asynccontextmanager
async def ready_fleet(folder: Path, *, children: int) -> AsyncIterator[Fleet]:
    """A coordinator over fake children, all READY; checks that it leaves nothing."""
    world = FakeWorld(folder, LocalSource(folder / "profiles"), children=children, hasty=False)
    await world.prepare()
    first = free_range(2 * children + 1)
    ports = range(first + 1, first + 1 + children)
    environment = {**world.setting.environment, "DRAIN_TIMEOUT_S": f"{DRAIN_LIMIT_S:g}", "START_TIMEOUT_S": "60"}
    async with fleets.running(world.setting.command, folder, environment, first, ports) as fleet:
        world.fleet = fleet
        await until(lambda: all_ready(world), "all children READY", timeout_s=60)
        yield fleet
        assert await asyncio.wait_for(fleet.process.wait(), fleets.END_LIMIT_S) == 0
        assert system.marked(str(fleet.tmp)) == set()
        assert system.files(fleet.tmp) == []


async def draining(fleet: Fleet) -> bool:
    _, shown = await fleet.ready()
    return bool(shown["status"] == "draining")


async def test_twenty_running_streams_finish_and_nobody_else_gets_in(tmp_path: Path) -> None:
    async with ready_fleet(tmp_path, children=CHILDREN) as fleet:
        go_on = tmp_path / "go on"
        streams = await asyncio.gather(
            *(Stream.begin(fleet, f"{number}", tokens=25, hold=str(go_on)) for number in range(CHILDREN))
        )
        fleet.send(signal.SIGTERM)
        await until(lambda: draining(fleet), "the drain", timeout_s=20)
        assert (await fleet.ready())[0] == 503
        async with fleet.http.get("/live") as live:
            assert live.status == 200
        async with fleet.http.post(CHAT, json=body("late")) as refused:
            assert (refused.status, (await refused.json())["error"]["code"]) == (503, "draining")
        assert not any(stream.rest.done() for stream in streams)
        go_on.touch()
        for stream in streams:
            *_, last, done = await stream.events()
            assert json.loads(last)["choices"][0]["finish_reason"] == "stop"
            assert done == "[DONE]"

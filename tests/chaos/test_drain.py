"""Shutdown under load: running streams finish, new requests are refused, nothing is left.

tests/coordinator/test_main.py covers streams beyond the drain timeout, and a second signal.
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
from tests.chaos import proc
from tests.chaos.fake_scenario import FakeScenario
from tests.chaos.fleet import Fleet, wait_until
from tests.chaos.profile_sources import LocalSource
from tests.chaos.runner import all_ready
from tests.support.ports import free_range
from tests.support.size import size

CHILDREN = size(8, 20)
DRAIN_LIMIT_S = 25.0
CHAT = "/v1/chat/completions"


def body(prompt: str, **fake: object) -> dict[str, object]:
    """Return a streaming request for a fake child."""
    return {"model": "fake", "stream": True, "messages": [{"role": "user", "content": prompt}], "fake": fake}


class Stream:
    """A streamed answer that has started, and is read to its end in the background."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.rest = asyncio.ensure_future(answer.read())

    async def events(self) -> list[str]:
        """Return the data of all events once the stream has ended."""
        return [event.removeprefix("data: ") for event in (await self.rest).decode().split("\n\n") if event]

    @classmethod
    async def begin(cls, fleet: Fleet, prompt: str, **fake: object) -> Stream:
        """Send a request and return its stream once the response has started."""
        answer = await fleet.http.post(CHAT, json=body(prompt, **fake))
        assert answer.status == 200, await answer.text()
        return cls(answer)


@contextlib.asynccontextmanager
async def ready_fleet(folder: Path, *, children: int) -> AsyncIterator[Fleet]:
    """Run a coordinator with fake children, all READY; check at the end that nothing is left."""
    scenario = FakeScenario(folder, LocalSource(folder / "profiles"), children=children, short=False)
    await scenario.prepare()
    first = free_range(2 * children + 1)
    ports = range(first + 1, first + 1 + children)
    environment = {**scenario.config.environment, "DRAIN_TIMEOUT_S": f"{DRAIN_LIMIT_S:g}", "START_TIMEOUT_S": "60"}
    async with fleets.running(scenario.config.command, folder, environment, first, ports) as fleet:
        scenario.fleet = fleet
        await wait_until(lambda: all_ready(scenario), "all children READY", timeout_s=60)
        yield fleet
        assert await asyncio.wait_for(fleet.process.wait(), fleets.END_LIMIT_S) == 0
        assert proc.marked(str(fleet.tmp)) == set()
        assert proc.files(fleet.tmp) == []


async def draining(fleet: Fleet) -> bool:
    """Return whether `/ready` reports that the coordinator is draining."""
    _, shown = await fleet.ready()
    return bool(shown["status"] == "draining")


async def test_all_running_streams_finish_and_new_requests_are_refused(tmp_path: Path) -> None:
    async with ready_fleet(tmp_path, children=CHILDREN) as fleet:
        go_on = tmp_path / "go on"
        streams = await asyncio.gather(
            *(Stream.begin(fleet, f"{number}", tokens=25, hold=str(go_on)) for number in range(CHILDREN))
        )
        fleet.send(signal.SIGTERM)
        await wait_until(lambda: draining(fleet), "the drain", timeout_s=20)
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

"""Eight logins in one real host, over pages without a browser: one ends, and no answer of the others has a gap."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.api.fake_pages import LOSE
from tests.coordinator.program import Running, coordinator, write_profile
from tests.coordinator.proxy.proxied import chat, request
from tests.support.gaps import Silences
from tests.support.ports import free_range
from tests.support.waiting import HANG_LIMIT_S

EIGHT = "abcdefgh"
NEIGHBOURS = EIGHT[1:]
OTHERS = "ijklmnop"
"""Those of a second host, which is full, so that whoever ends comes back to the first."""
CONTROL = OTHERS[0]
"""Its answer does not come by the coordinator."""
GAP_S = 0.5
"""The longest gap in an answer that the end of a neighbour may leave."""
WATCHED_S = 2.0


class Streams:
    """Answers that never end, each read as it comes."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def open(self, name: str, port: int, heard: Callable[[], object], prompt: str = "go on") -> None:
        """Ask this login, at this port, and return once its answer has begun."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.loads(chat(prompt, stream=True)) | {"model": name}
        writer.write(request(json.dumps(body).encode()))
        begun = asyncio.Event()

        async def read() -> None:
            with contextlib.closing(writer):
                while data := await reader.read(65536):
                    if b"piece" in data:
                        heard()
                        begun.set()
                    if b'"error"' in data:
                        return

        self._tasks[name] = asyncio.create_task(read())
        async with asyncio.timeout(HANG_LIMIT_S):
            await begun.wait()

    def ended(self) -> set[str]:
        return {name for name, task in self._tasks.items() if task.done()}

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


@contextlib.asynccontextmanager
async def a_host_of_eight(tmp_path: Path) -> AsyncIterator[Running]:
    for name in EIGHT + OTHERS:
        write_profile(tmp_path / "active", name)
    base = free_range(32)
    settings = {
        "LOGINS_PER_BROWSER": "8",
        "BASE_API_PORT": str(base),
        "BASE_STREAM_PORT": str(base + 16),
        "BACKOFF_MAX_S": "0.5",
        "LOG_FORMAT": "json",
    }
    async with coordinator(tmp_path, program="tests.coordinator.run_with_fake_pages", **settings) as running:
        await running.until_ready(*EIGHT, *OTHERS)
        hosts = pids(running)
        assert {hosts[name] for name in EIGHT} == {hosts["a"]}
        assert {hosts[name] for name in OTHERS} == {hosts[CONTROL]} != {hosts["a"]}
        yield running


def pids(running: Running) -> dict[str, int]:
    return {event["child"]: event["pid"] for event in running.events("child_started")}


async def silences_of_the_neighbours(running: Running) -> dict[str, float]:
    """Have the page of one login be lost while all eight answer; return the longest gap of each of the others."""
    silences, streams = Silences(), Streams(running)

    async def until(seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(HANG_LIMIT_S):
            while not seen():
                assert streams.ended() <= {"a"}
                await asyncio.sleep(0.02)

    def started(name: str) -> list[dict[str, object]]:
        return [event for event in running.events("child_started") if event["child"] == name]

    try:
        await streams.open(CONTROL, urlsplit(str(started(CONTROL)[0]["url"])).port or 0, silences.tick)
        for name in NEIGHBOURS:
            await streams.open(name, running.port, lambda name=name: silences.hear(name))  # type: ignore[misc]
        silences.begin()
        await streams.open("a", running.port, lambda: None, LOSE)
        await until(lambda: streams.ended() == {"a"} and len(started("a")) == 2)
        await running.until("a", "READY")  # its new start is in the same process
        over = silences.clock_s + WATCHED_S
        await until(lambda: silences.clock_s >= over)
        assert {event["exit_code"] for event in running.events("child_exited")} == {70}
        return silences.measure()
    finally:
        await streams.close()


async def test_the_end_of_one_leaves_no_gap_in_the_answers_of_the_other_seven(tmp_path: Path) -> None:
    async with a_host_of_eight(tmp_path) as running:
        longest = await silences_of_the_neighbours(running)
        assert set(longest) == set(NEIGHBOURS)
        assert max(longest.values()) < GAP_S, longest
        assert pids(running)["a"] == pids(running)["b"], "it did not come back to its host"


# A second fleet, which shows nothing of the product.
@pytest.mark.slow
async def test_where_the_end_of_one_holds_the_loop_the_gap_is_seen(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    async with a_host_of_eight(tmp_path) as running:
        (running.evidence / "close_blocks_s").write_text("2.0")
        longest = await silences_of_the_neighbours(running)
        assert min(longest.values()) > GAP_S, longest

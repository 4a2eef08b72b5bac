"""nginx and HAProxy before three cells, as deploy/balancer configures them: each prompt is submitted exactly once."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cells.balancers import BALANCERS, balancer
from tests.cells.running import Cell, digest, three_cells
from tests.coordinator.program import KEY
from tests.coordinator.proxy.proxied import chat
from tests.support.size import size
from tests.support.waiting import HANG_LIMIT_S, eventually

pytestmark = pytest.mark.slow

LOGINS = 2
PATH = "/v1/chat/completions"


@dataclass
class Behind:
    """Three cells, and a client of the balancer before them."""

    cells: list[Cell]
    http: httpx.AsyncClient

    async def ask(self, prompt: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        body = json.loads(chat(prompt, **more))
        return await self.http.post(PATH, json=body, headers={**KEY, **(headers or {})})

    def submitted(self) -> Counter[str]:
        """How often each prompt was submitted, by its digest, in all cells together."""
        return Counter(one for cell in self.cells for one in cell.submitted())


@asynccontextmanager
async def behind(kind: str, tmp_path: Path) -> AsyncIterator[Behind]:
    async with three_cells(tmp_path, logins=LOGINS) as cells:
        ports = [cell.port for cell in cells]
        async with (
            balancer(kind, tmp_path / kind, ports, logins=LOGINS) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120, verify=False) as http,
        ):
            yield Behind(cells, http)


@pytest.mark.parametrize("kind", BALANCERS)
async def test_one_cell_is_busy_one_dead_one_free_and_each_prompt_is_submitted_once(tmp_path: Path, kind: str) -> None:
    async with behind(kind, tmp_path) as api:
        busy, dead, free = api.cells
        gate = tmp_path / "gate"
        held = await busy.keep_busy("hold the page", gate)
        assert await dead.running.end(signal.SIGKILL) != 0

        # As many at a time as the free cell has pages: where they all are refused, HAProxy does not wait.
        room, prompts = asyncio.Semaphore(LOGINS), [f"prompt {number}" for number in range(size(30, 1000))]

        async def ask(number: int, prompt: str) -> None:
            async with room:
                answer = await api.ask(prompt, stream=number % 2 == 0)
                assert (answer.status_code, digest(prompt) in answer.text) == (200, True), answer.text
                assert answer.text.endswith("data: [DONE]\n\n") == (number % 2 == 0)
                # A page is free for the next one only after the last byte of its answer.
                await eventually_free(free)

        await asyncio.gather(*(ask(number, prompt) for number, prompt in enumerate(prompts)))
        counted = api.submitted()
        assert {prompt: counted[digest(prompt)] for prompt in prompts} == dict.fromkeys(prompts, 1)
        assert len(free.submitted()) == len(prompts)
        gate.touch()
        assert [(await one).status_code for one in held] == [200] * LOGINS
        refused = (await busy.running.metrics()).sum("tabfleet_requests_total", code="not_queued")
        assert refused > 0, "no request came to the busy cell first: nothing was passed on"


async def eventually_free(cell: Cell) -> None:
    async with asyncio.timeout(HANG_LIMIT_S):
        while await cell.in_flight() >= LOGINS:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", BALANCERS)
async def test_what_is_each_cells_own_is_not_reached(tmp_path: Path, kind: str) -> None:
    async with behind(kind, tmp_path) as api:
        for path in ("/", "/ready", "/live", "/health", "/metrics", "/admin/children", "/login", "/v1/../metrics"):
            assert (await api.http.get(path)).status_code == 404, path
        assert (await api.http.get("/v1/models", headers=KEY)).status_code == 200


@pytest.mark.parametrize("kind", BALANCERS)
async def test_what_has_failed_after_the_submission_is_not_sent_again(tmp_path: Path, kind: str) -> None:
    """Also where the site's refusal would be 429 or 503, and where the cell is killed at work."""
    async with behind(kind, tmp_path) as api:
        for code in ("quota", "login_expired", "site_unreachable"):
            answer = await api.ask(f"refused: {code}", fake={"site_error": code})
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, code)
            assert answer.headers["x-should-retry"] == "false"
            assert api.submitted()[digest(f"refused: {code}")] == 1

        prompt = "the cell dies"
        asking = asyncio.create_task(api.ask(prompt, fake={"first_token_s": 600.0}))
        await eventually(lambda: api.submitted()[digest(prompt)])
        (at_work,) = [cell for cell in api.cells if digest(prompt) in cell.submitted()]
        await at_work.running.end(signal.SIGKILL)
        await eventually(lambda: asking.done() or api.submitted()[digest(prompt)] > 1)
        assert api.submitted()[digest(prompt)] == 1
        answer = await asking
        assert (answer.status_code, answer.headers["x-should-retry"]) == (502, "false")
        # What comes after it is answered by the others, so that a second submission would have been made by now.
        for number in range(4):
            assert (await api.ask(f"after {number}")).status_code == 200
        assert api.submitted()[digest(prompt)] == 1


@pytest.mark.parametrize("kind", BALANCERS)
async def test_repeats_with_a_key_and_continued_responses_come_to_the_same_cell(tmp_path: Path, kind: str) -> None:
    async with behind(kind, tmp_path) as api:
        for number in range(16):
            key = {"idempotency-key": f"key-{number}"}
            first, second = [await api.ask(f"keyed {number}", headers=key) for _ in range(2)]
            assert (first.status_code, second.content) == (200, first.content)
            assert second.headers["idempotent-replayed"] == "true"
        counted = api.submitted()
        assert [counted[digest(f"keyed {number}")] for number in range(16)] == [1] * 16
        cells = [cell for cell in api.cells if cell.submitted()]
        assert len(cells) > 1, "all keys went to one cell"
        # Fakes speak no Responses dialect; which cell was asked is seen by which counts the request.
        for _ in range(4):
            await api.http.post("/v1/responses", json={"model": "fake", "input": "hello"}, headers=KEY)
        asked = [await not_found(cell) for cell in api.cells]
        assert sorted(asked) == [0, 0, 4]


async def not_found(cell: Cell) -> float:
    return (await cell.running.metrics()).sum("tabfleet_requests_total", code="not_found")


async def test_where_all_are_busy_nginx_has_a_request_wait_in_a_cell_that_has_ready_pages(tmp_path: Path) -> None:
    async with behind("nginx", tmp_path) as api:
        busy, dead, unready = api.cells
        gate = tmp_path / "gate"
        held = await busy.keep_busy("hold the page", gate)
        await dead.running.end(signal.SIGKILL)
        for name in unready.names:
            await unready.running.behave(name, unready="site_unreachable")
            await unready.running.until(name, "UNHEALTHY")
        prompts = [f"waits {number}" for number in range(6)]
        asking = [asyncio.create_task(api.ask(prompt)) for prompt in prompts]
        async with asyncio.timeout(HANG_LIMIT_S):
            while await busy.queued() < len(prompts):
                assert not [one.result().text for one in asking if one.done()]
                await asyncio.sleep(0.02)
        gate.touch()
        assert [(await one).status_code for one in (*asking, *held)] == [200] * (len(prompts) + LOGINS)
        counted = api.submitted()
        assert [counted[digest(prompt)] for prompt in prompts] == [1] * len(prompts)


@pytest.mark.parametrize("kind", BALANCERS)
async def test_streams_come_as_they_are_written_and_large_bodies_whole(tmp_path: Path, kind: str) -> None:
    async with behind(kind, tmp_path) as api:
        gate = tmp_path / "gate"
        body = json.loads(chat("streamed", stream=True, fake={"hold": str(gate)}))
        async with api.http.stream("POST", PATH, json=body, headers=KEY) as answer:
            pieces = answer.aiter_text()
            # The rest is not written before the gate is there: with a buffer nothing would come.
            first = await asyncio.wait_for(anext(pieces), HANG_LIMIT_S)
            assert digest("streamed") in first
            gate.touch()
            assert "".join([piece async for piece in pieces]).endswith("data: [DONE]\n\n")
        large = "x" * 9_000_000
        answer = await api.ask(large)
        assert (answer.status_code, api.submitted()[digest(large)]) == (200, 1)


async def test_nginx_sends_a_large_body_to_the_next_cell_and_haproxys_waits_in_the_first(tmp_path: Path) -> None:
    async with behind("nginx", tmp_path) as api:
        gate, prompts = tmp_path / "gate", [f"{number}" * 1_000_000 for number in range(4)]
        *taken, free = api.cells
        held = [task for cell in taken for task in await cell.keep_busy(f"hold {cell.port}", gate)]
        assert [(await api.ask(prompt)).status_code for prompt in prompts] == [200] * len(prompts)
        assert sorted(free.submitted()) == sorted(map(digest, prompts))

        held += await free.keep_busy("hold the last", gate)
        async with balancer("haproxy", tmp_path / "haproxy", [cell.port for cell in api.cells], logins=9) as port:
            body = json.loads(chat("y" * 1_000_000))
            asking = asyncio.create_task(api.http.post(f"http://127.0.0.1:{port}{PATH}", json=body, headers=KEY))
            async with asyncio.timeout(HANG_LIMIT_S):
                while sum([await cell.queued() for cell in api.cells]) < 1:  # noqa: ASYNC110 - in other processes
                    await asyncio.sleep(0.02)
            gate.touch()
            assert (await asking).status_code == 200
        assert api.submitted()[digest("y" * 1_000_000)] == 1
        assert [(await one).status_code for one in held] == [200] * (3 * LOGINS)

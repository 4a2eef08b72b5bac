"""A thousand prompts through nginx and HAProxy, before cells that claim: each is submitted once, and answered.

`tests/cells/test_balancers.py` shows more of it, for cells that each have a fixed share.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.cells.balancers import BALANCERS, balancer
from tests.coordinator.program import KEY
from tests.coordinator.proxy.proxied import chat
from tests.scale.fleet import CELLS, COME_BACK_S, LOGINS, Cell, ScaleFleet, scale_fleet
from tests.scale.saying import Said
from tests.support.json_lines import json_lines
from tests.support.metrics import Metrics
from tests.support.waiting import eventually

pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]

PATH = "/v1/chat/completions"
PROMPTS = int(os.environ.get("SCALE_PROMPTS", "1000"))
AT_A_TIME = 2


def digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


def submitted(fleet: ScaleFleet) -> Counter[str]:
    """How often each prompt was given to a page, by its digest."""
    entries = [entry for login in LOGINS for entry in json_lines(fleet.evidence / f"{login}.ledger")]
    return Counter(entry["digest"] for entry in entries if "digest" in entry)


async def metrics(cell: Cell) -> Metrics:
    return Metrics.parse((await cell.http.get("/metrics", headers=KEY)).text)


@pytest.mark.parametrize("kind", BALANCERS)
async def test_each_prompt_is_submitted_once_while_one_cell_is_busy_and_one_is_killed(
    tmp_path: Path, kind: str, say: Said
) -> None:
    async with scale_fleet(tmp_path, in_namespaces=False) as fleet:
        busy, dead, free = (fleet.cells[name] for name in CELLS)
        await asyncio.gather(*(cell.start() for cell in fleet.cells.values()))
        placed = await fleet.until_shared_out()
        gate = tmp_path / "gate"
        hold = json.loads(chat("hold the page", fake={"hold": str(gate)}))
        pages = Counter(placed.values())[busy.name]
        holding = [asyncio.create_task(busy.http.post(PATH, json=hold, headers=KEY, timeout=600)) for _ in range(pages)]
        await eventually(lambda: submitted(fleet)[digest("hold the page")] == pages)
        await dead.end(signal.SIGKILL)

        prompts = [f"prompt {number}" for number in range(PROMPTS)]
        room, began = asyncio.Semaphore(AT_A_TIME), time.monotonic()
        ports = [cell.port for cell in fleet.cells.values()]
        async with (
            balancer(kind, tmp_path / kind, ports, logins=len(LOGINS) // len(CELLS)) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as http,
        ):

            async def ask(number: int, prompt: str) -> None:
                async with room:
                    stream = number % 2 == 0
                    answer = await http.post(PATH, json=json.loads(chat(prompt, stream=stream)), headers=KEY)
                    assert (answer.status_code, digest(prompt) in answer.text) == (200, True), answer.text
                    assert answer.text.endswith("data: [DONE]\n\n") == stream
                    # A page is free for the next one only after the last byte of its answer, in another process.
                    async with asyncio.timeout(COME_BACK_S):
                        while (await metrics(free)).sum("tabfleet_leases_held") >= AT_A_TIME:  # noqa: ASYNC110 - as above
                            await asyncio.sleep(0.01)

            await asyncio.gather(*(ask(number, prompt) for number, prompt in enumerate(prompts)))
        counted = submitted(fleet)
        assert {prompt: counted[digest(prompt)] for prompt in prompts} == dict.fromkeys(prompts, 1)
        refused = (await metrics(busy)).sum("tabfleet_requests_total", code="not_queued")
        assert refused > 0, "no request came to the busy cell first: nothing was passed on"
        gate.touch()
        assert [(await one).status_code for one in holding] == [200] * pages
        placed = await fleet.until_shared_out([busy.name, free.name])
        say(
            f"{kind}: {len(prompts)} prompts answered in {time.monotonic() - began:.0f} s, each submitted once;"
            f" {refused:.0f} passed on by the busy cell; the killed cell's logins are in {sorted(set(placed.values()))}"
        )

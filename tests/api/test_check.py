"""`POST /check`: who may have a site file checked, and what is answered where no page can be had for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from api_utils.settings import ChildSettings
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage

SETTINGS = ChildSettings(tabfleet_control_token="the-token")
TOKEN = {"x-tabfleet-token": "the-token"}
BODY = {"file": "mine.toml", "text": "name = 'mine'"}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("plain\nviews role=view\nruns role=operate\n")
    return path


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"x-tabfleet-token": "another"}, 401),
        ({"x-api-key": "plain"}, 403),
        ({"x-api-key": "views"}, 403),
        ({"x-api-key": "runs"}, 200),
        (TOKEN, 200),
    ],
)
async def test_only_the_coordinator_and_operators_check(
    serve: Serve, key_file: Path, headers: dict[str, str], status: int
) -> None:
    async with serve(ScriptedPage(), key_file=key_file, settings=SETTINGS) as client:
        assert (await client.post("/check", headers=headers, json=BODY)).status == status


@pytest.mark.parametrize("body", [[], {}, {"file": "mine.toml"}, {"file": "mine.toml", "text": 1}, {"text": ""}])
async def test_a_body_without_a_site_file_is_refused(serve: Serve, body: Any) -> None:
    async with serve(ScriptedPage(), settings=SETTINGS) as client:
        refused = await client.post("/check", headers=TOKEN, json=body)
        assert refused.status == 400
        assert "site file's name" in (await refused.json())["error"]["message"]


async def test_without_a_page_nothing_is_known(serve: Serve) -> None:
    async with serve(ScriptedPage(), settings=SETTINGS) as client:
        answer = await (await client.post("/check", headers=TOKEN, json=BODY)).json()
    assert (answer["outcome"], answer["message"]) == ("given_up", "the page is not up")


async def test_a_page_in_use_is_left_alone(serve: Serve) -> None:
    held = asyncio.Event()
    page = ScriptedPage(hold_before=held)
    async with serve(page, settings=SETTINGS) as client:
        chat = {"model": "demo-small", "messages": [{"role": "user", "content": "hello"}]}
        asking = asyncio.create_task(client.post("/v1/chat/completions", headers=TOKEN, json=chat))
        await page.begun.wait()
        answer = await (await client.post("/check", headers=TOKEN, json=BODY)).json()
        assert (answer["outcome"], answer["message"]) == ("given_up", "the page is in use")
        held.set()
        assert (await asking).status == 200

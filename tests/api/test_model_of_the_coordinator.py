"""The model that the coordinator means counts, whatever the body calls it: an alias, or a model with its site."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from api_utils.settings import ChildSettings
from contract.child_api import MODEL_HEADER
from contract.dialects import DIALECTS
from contract.dialects.messages import COUNT_TOKENS_PATH
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage

TOKEN = {"x-tabfleet-token": "tok"}
MEANT = {MODEL_HEADER: quote("demo/large", safe="")}


SAID = {"messages": [{"role": "user", "content": "hello"}], "prompt": "hello", "input": "hello"}


def body(model: str, path: str) -> dict[str, Any]:
    """A request of the dialect of this route."""
    name = {"/v1/completions": "prompt", "/v1/responses": "input"}.get(path, "messages")
    return {"model": model, name: SAID[name], **({"max_tokens": 100} if "/messages" in path else {})}


@pytest.mark.parametrize("path", DIALECTS)
async def test_in_every_dialect(serve: Serve, path: str) -> None:
    page = ScriptedPage()
    async with serve(page, settings=ChildSettings(tabfleet_control_token="tok")) as client:
        answer = await client.post(path, json=body("quick", path), headers={**TOKEN, **MEANT})
        assert answer.status == 200, await answer.text()
        assert json.loads(await answer.text())["model"] == "demo/large"
        assert [model for _, _, model in page.prompts] == ["demo/large"]
        # Without it the body's own counts, and nobody else may say otherwise.
        for headers in (TOKEN, MEANT, {**MEANT, "x-tabfleet-token": "wrong"}):
            assert (await client.post(path, json=body("quick", path), headers=headers)).status == 404
        assert (await client.post(path, json=body("demo-small", path), headers=MEANT)).status == 200
        assert page.prompts[-1][2] == "demo-small"


async def test_counting_tokens(serve: Serve) -> None:
    async with serve(ScriptedPage(), settings=ChildSettings(tabfleet_control_token="tok")) as client:
        for headers, status in (({**TOKEN, **MEANT}, 200), (TOKEN, 404)):
            assert (
                await client.post(COUNT_TOKENS_PATH, json=body("quick", COUNT_TOKENS_PATH), headers=headers)
            ).status == status

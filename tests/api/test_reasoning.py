"""What a page shows of its reasoning, as callers get it: beside the answer's text, and no part of it."""

from __future__ import annotations

import json
from typing import Any

from browser.capture.findings import Reasoning
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage
from tests.api.test_tools import NOW, OSLO, TOOLS

URL = "/v1/chat/completions"


def body(**more: Any) -> dict[str, Any]:
    return {"model": "demo-small", "messages": [{"role": "user", "content": "Weather?"}], **more}


async def test_whole_and_streamed(serve: Serve) -> None:
    page = ScriptedPage(pieces=(Reasoning("So, "), Reasoning("rain."), "It ", "rains"))
    async with serve(page) as client:
        whole = await (await client.post(URL, json=body())).json()
        asked = body(stream=True, stream_options={"include_usage": True})
        streamed = await (await client.post(URL, json=asked)).text()
    message = whole["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("It rains", "So, rain.")
    assert whole["usage"]["completion_tokens"] == 2 + 3
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
    chunks = [json.loads(block[6:]) for block in streamed.split("\n\n")[:-2]]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["So, ", "rain."]
    assert "".join(delta.get("content", "") for delta in deltas) == "It rains"
    assert deltas[0]["role"] == "assistant"
    assert chunks[-1]["usage"] == whole["usage"]


async def test_a_page_that_shows_none_says_nothing_of_it(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        whole = await (await client.post(URL, json=body())).json()
    assert "reasoning_content" not in whole["choices"][0]["message"]
    assert "completion_tokens_details" not in whole["usage"]


async def test_calls_json_and_limits_leave_it_alone(serve: Serve) -> None:
    """What looks like a call or a stop sequence in it is neither, and `max_tokens` counts the answer."""
    thought = Reasoning(f"{NOW}\nEND of thought\n")
    page = ScriptedPage(pieces=(thought, OSLO))
    async with serve(page) as client:
        response = await client.post(URL, json=body(tools=TOOLS, stop=["END"], max_tokens=1000))
        choice = (await response.json())["choices"][0]
    assert choice["message"]["reasoning_content"] == thought.text
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["weather"]
    page = ScriptedPage(pieces=(Reasoning("{"), '{"a": ', Reasoning("}"), "1}"))
    async with serve(page) as client:
        response = await client.post(URL, json=body(response_format={"type": "json_object"}))
        message = (await response.json())["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ('{"a": 1}', "{}")


async def test_that_of_a_repair_is_passed_on_too(serve: Serve) -> None:
    page = ScriptedPage(pieces=(Reasoning("Hm. "), "no"), later=[(Reasoning("Ah."), OSLO)])
    async with serve(page) as client:
        response = await client.post(URL, json=body(tools=TOOLS, tool_choice="required"))
        message = (await response.json())["choices"][0]["message"]
    assert message["reasoning_content"] == "Hm. Ah."
    assert len(message["tool_calls"]) == 1

"""Legacy completions over a scripted page: how answers are written, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api_utils.settings import ChildSettings
from browser import errors
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage

URL = "/v1/completions"


def ask(prompt: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "demo-small", "prompt": prompt, **more}


def events(body: str) -> list[Any]:
    data = [block.removeprefix("data: ") for block in body.split("\n\n") if block.startswith("data: ")]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


@pytest.mark.parametrize("prompt", ["as it is\n", ["as it is\n"]])
async def test_a_whole_answer(serve: Serve, prompt: Any) -> None:
    page = ScriptedPage()
    async with serve(page) as client:
        response = await client.post(URL, json=ask(prompt), headers={"x-request-id": "r-1"})
        body = await response.json()
    assert page.prompts[0][1] == "as it is\n"
    assert (body["id"], body["object"], body["model"]) == ("cmpl-r-1", "text_completion", "demo-small")
    assert body["choices"] == [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "stop"}]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert response.headers["x-usage"] == "estimated"


@pytest.mark.parametrize("usage", [True, False])
async def test_a_streamed_answer(serve: Serve, *, usage: bool) -> None:
    asked = ask(stream=True, stream_options={"include_usage": usage})
    async with serve(ScriptedPage()) as client:
        response = await client.post(URL, json=asked)
        *chunks, done = events(await response.text())
    assert done == "[DONE]"
    assert ("x-usage" in response.headers) is usage
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [choice["text"] for choice in choices] == ["Hel", "lo", ""]
    assert [choice["finish_reason"] for choice in choices] == [None, None, "stop"]
    told = [chunk.get("usage", "absent") for chunk in chunks]
    total = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert told == ([None, None, None, total] if usage else ["absent"] * 3)


async def test_usage_can_be_left_out(serve: Serve) -> None:
    async with serve(ScriptedPage(), settings=ChildSettings(estimate_usage=False)) as client:
        response = await client.post(URL, json=ask())
        assert "usage" not in await response.json()
        assert "x-usage" not in response.headers


@pytest.mark.parametrize(
    ("given", "text", "reason"),
    [
        ({"stop": "o w"}, "Hell", "stop"),
        ({"stop": ["wor", ""]}, "Hello ", "stop"),
        ({"max_tokens": 1}, "Hell", "length"),
        ({}, "Hello world" * 10, "stop"),
    ],
)
async def test_an_answer_ends_where_the_request_says_and_nowhere_else(
    serve: Serve, given: dict[str, Any], text: str, reason: str
) -> None:
    """Without `max_tokens` OpenAI would end it after 16 tokens."""
    async with serve(ScriptedPage(pieces=("Hello", " world") + ("Hello world",) * 9)) as client:
        choice = (await (await client.post(URL, json=ask(**given))).json())["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (text, reason)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (ask(["one", "two"]), "prompt"),
        (ask([]), "prompt"),
        (ask([1, 2]), "prompt"),
        (ask([[1, 2]]), "prompt"),
        (ask(7), "prompt"),
        (ask("  "), "prompt"),
        (ask(suffix="."), "suffix"),
        (ask(echo=True), "echo"),
        (ask(n=2), "n"),
        (ask(n=True), "n"),
        (ask(best_of=2), "best_of"),
        (ask(logprobs=0), "logprobs"),
        (ask(logprobs=3), "logprobs"),
        (ask(stop=7), "stop"),
        (ask(max_tokens=0), "max_tokens"),
        (ask(stream="perhaps"), "stream"),
        ({"model": "demo-small"}, "prompt"),
        ({"prompt": "hi"}, "model"),
        ([], None),
    ],
)
async def test_what_a_page_cannot_honour_is_refused_by_name(serve: Serve, body: Any, param: str | None) -> None:
    page = ScriptedPage()
    async with serve(page) as client:
        response = await client.post(URL, json=body)
        error = (await response.json())["error"]
    assert (response.status, error["param"], error["type"]) == (400, param, "invalid_request_error")
    assert not page.prompts


async def test_what_shapes_sampling_is_accepted(serve: Serve) -> None:
    harmless = {"temperature": 0, "top_p": 1, "n": 1, "best_of": 1, "echo": False, "suffix": None, "logprobs": None}
    async with serve(ScriptedPage()) as client:
        assert (await client.post(URL, json=ask(**harmless, logit_bias={}, user="u", seed=1))).status == 200


async def test_a_failure_in_mid_stream_ends_it_with_an_error_and_no_done(serve: Serve) -> None:
    page = ScriptedPage(failure=errors.StreamIdleTimeout("nothing more came"))
    async with serve(page) as client:
        received = events(await (await client.post(URL, json=ask(stream=True))).text())
    assert received[-1]["error"]["code"] == "stream_idle_timeout"
    assert "[DONE]" not in received

"""Answers that are to be JSON: what is taken as such, and what the caller gets where it is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api_utils.json_answer import JsonFormat
from contract.api_error import ApiError, ErrorCode
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage

URL = "/v1/chat/completions"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OBJECT = {"type": "json_object"}
FITTING = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": SCHEMA}}
OSLO = '{"city": "Oslo"}'


def ask(response_format: Any, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Where?"}]
    return {"model": "demo-small", "messages": messages, "response_format": response_format, **more}


@pytest.mark.parametrize("answer", [OSLO, f"\n{OSLO}\n", f"```json\n{OSLO}\n```", f"```\n{OSLO}\n```\n"])
@pytest.mark.parametrize("schema", [None, SCHEMA])
def test_json_is_taken_out_of_one_code_fence(answer: str, schema: Any) -> None:
    assert JsonFormat(schema).json_in(answer) == OSLO


@pytest.mark.parametrize(
    ("schema", "answer"),
    [
        (None, "Oslo"),
        (None, ""),
        (None, "[1]"),
        (None, f"Here it is: {OSLO}"),
        (None, "[" * 100_000),
        (None, '{"Oslo": NaN}'),
        (SCHEMA, '{"town": "Oslo"}'),
        (SCHEMA, '{"city": 7}'),
        (SCHEMA, '["Oslo"]'),
        ({"$ref": "http://127.0.0.1:9/x"}, OSLO),
    ],
)
def test_what_is_not_as_asked_is_an_error_without_its_words(schema: Any, answer: str) -> None:
    with pytest.raises(ApiError) as raised:
        JsonFormat(schema).json_in(answer)
    assert raised.value.code is ErrorCode.BAD_FORMAT
    assert raised.value.headers["x-should-retry"] == "false"
    assert "Oslo" not in raised.value.message


@pytest.mark.parametrize("response_format", [OBJECT, FITTING])
async def test_the_page_is_told_and_its_json_comes_back(serve: Serve, response_format: Any) -> None:
    page = ScriptedPage(pieces=("```json\n", '{"city": ', '"Oslo"}', "\n```"))
    async with serve(page) as client:
        whole = await (await client.post(URL, json=ask(response_format))).json()
        streamed = await (await client.post(URL, json=ask(response_format, stream=True))).text()
    assert whole["choices"][0]["message"]["content"] == OSLO
    chunks = [json.loads(block[6:])["choices"][0]["delta"] for block in streamed.split("\n\n")[:-2]]
    assert "".join(chunk.get("content", "") for chunk in chunks) == OSLO
    assert page.prompts[0][1].startswith("Format:\nAnswer with")
    assert page.prompts[0][1].endswith("\n\nUser:\nWhere?")
    assert ('"city"' in page.prompts[0][1]) is (response_format is FITTING)


async def test_an_answer_that_is_not_as_asked_fails_before_its_first_event(serve: Serve) -> None:
    async with serve(ScriptedPage(pieces=("In ", "Oslo."))) as client:
        for stream in (True, False):
            response = await client.post(URL, json=ask(OBJECT, stream=stream))
            assert (response.status, (await response.json())["error"]["code"]) == (502, "bad_format")
            assert response.headers["x-should-retry"] == "false"


async def test_text_as_a_format_changes_nothing(serve: Serve) -> None:
    page = ScriptedPage()
    async with serve(page) as client:
        body = await (await client.post(URL, json=ask({"type": "text"}))).json()
    assert body["choices"][0]["message"]["content"] == "Hello"
    assert page.prompts[0][1] == "Where?"


async def test_what_the_most_tokens_cut_comes_as_it_is(serve: Serve) -> None:
    async with serve(ScriptedPage(pieces=(OSLO,))) as client:
        choice = (await (await client.post(URL, json=ask(OBJECT, max_tokens=2))).json())["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (OSLO[:8], "length")


async def test_calls_of_tools_come_instead(serve: Serve) -> None:
    call = '```tool_call\n{"name": "now", "arguments": {}}\n```'
    tools = [{"type": "function", "function": {"name": "now", "parameters": {}}}]
    async with serve(ScriptedPage(pieces=(call,))) as client:
        choice = (await (await client.post(URL, json=ask(FITTING, tools=tools))).json())["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None

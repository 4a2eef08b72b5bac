"""Calls of tools, read out of a page's text: the same however it comes in pieces, and only those that may be made."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_utils.tools import MOST_CALL_CHARS, Tool, ToolCall, ToolCallReader, ToolUse, write_call
from contract.api_error import ApiError, ErrorCode
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage

URL = "/v1/chat/completions"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
USE = ToolUse({"weather": Tool("weather", "The weather.", SCHEMA), "now": Tool("now", "", {})})
OSLO = write_call("weather", '{"city": "Oslo"}')
NOW = write_call("now", "{}")


def declared(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "Says it.", "parameters": parameters}}


TOOLS = [declared("weather", SCHEMA), declared("now", {})]


def read(pieces: list[str], use: ToolUse = USE) -> tuple[str, list[tuple[str, Any]]]:
    """Return the text, and each call's name and arguments."""
    reader, items = ToolCallReader(use), []
    for piece in pieces:
        items += reader.feed(piece)
    items += reader.end()
    calls = [(item.name, json.loads(item.arguments)) for item in items if isinstance(item, ToolCall)]
    return "".join(item for item in items if isinstance(item, str)), calls


def cut_up(text: str, cuts: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in pairwise(edges)]


CUTS = st.lists(st.integers(0, 10_000), max_size=40)
WEATHER = ("weather", {"city": "Oslo"})


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        (OSLO, "", [WEATHER]),
        (f"I look it up.\n\n{OSLO}\n", "I look it up.", [WEATHER]),
        (f"{OSLO}\n{NOW}\n\n", "", [WEATHER, ("now", {})]),
        (f"{OSLO}\nDone?", "Done?", [WEATHER]),
        (OSLO.removesuffix("\n```"), "", [WEATHER]),
        ("  ```tool_call  \n" + json.dumps([{"name": "now"}, {"name": "now"}]) + "\n ```", "", [("now", {})] * 2),
        ('```tool_call\n{"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}\n```', "", [WEATHER]),
        ("It is warm.\n", "It is warm.\n", []),
        ("```python\nprint()\n```", "```python\nprint()\n```", []),
        ("a ```tool_call\n", "a ```tool_call\n", []),
        ("```tool_calls\nx\n```\n", "```tool_calls\nx\n```\n", []),
        ("``", "``", []),
        ("", "", []),
    ],
)
@given(cuts=CUTS)
def test_text_and_calls_are_told_apart_wherever_the_pieces_end(
    answer: str, text: str, calls: list[Any], cuts: list[int]
) -> None:
    assert read(cut_up(answer, cuts)) == (text, calls)


DAMAGED = [
    "{'name': 'weather', 'arguments': {'city': 'Oslo'}}",
    '{"name": "weather", "arguments": {"city": "Oslo",}}',
    '{"name": "weather", "arguments": {"days": 1}}',
    '{"name": "weather", "arguments": {"city": 7}}',
    '{"name": "weather", "arguments": ["Oslo"]}',
    '{"name": "weather", "arguments": "Oslo"}',
    '{"name": "delete_all", "arguments": {}}',
    '{"name": ["weather"]}',
    '{"name": "now", "arguments": {"at": NaN}}',
    '{"name": "now", "arguments": {"at": 1e999}}',
    '{"name": "now", "arguments": {"at": ' + "9" * 5000 + "}}",
    "weather(Oslo)",
    "[" * 100_000,
    "7",
    "",
]


@pytest.mark.parametrize("block", DAMAGED, ids=range(len(DAMAGED)))
@given(cuts=CUTS)
def test_a_damaged_call_is_an_error_and_never_a_call(block: str, cuts: list[int]) -> None:
    with pytest.raises(ApiError) as raised:
        read(cut_up(f"So:\n```tool_call\n{block}\n```\n", cuts))
    assert raised.value.code is ErrorCode.BAD_TOOL_CALL
    assert raised.value.headers["x-should-retry"] == "false"
    assert "Oslo" not in raised.value.message


@given(
    answer=st.lists(
        st.sampled_from(["\n", " ", "```", "tool_call", "```tool_call\n", '{"name": "now"}', "\n```\n", "a", "{}"]),
        max_size=14,
    ).map("".join),
    cuts=CUTS,
)
def test_pieces_make_no_difference(answer: str, cuts: list[int]) -> None:
    def outcome(pieces: list[str]) -> Any:
        try:
            return read(pieces)
        except ApiError as error:
            return error.message

    assert outcome(cut_up(answer, cuts)) == outcome([answer])


async def test_half_a_surrogate_pair_in_an_argument_is_passed_on_as_it_came(serve: Serve) -> None:
    page = ScriptedPage(pieces=('```tool_call\n{"name": "weather", "arguments": {"city": "\\ud83d"}}\n```',))
    body = {"model": "demo-small", "messages": [{"role": "user", "content": "Weather?"}], "tools": TOOLS}
    async with serve(page) as client:
        choice = (await (await client.post(URL, json=body)).json())["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "\\ud83d"}'


def test_a_required_call_that_does_not_come_is_an_error() -> None:
    with pytest.raises(ApiError, match="tool_choice"):
        read(["I would rather not."], ToolUse(USE.tools, required=True))


def test_only_the_tool_that_was_named_may_be_called() -> None:
    with pytest.raises(ApiError, match="was not given"):
        read([NOW], ToolUse(USE.tools, required=True, only="weather"))


def test_a_schema_is_not_fetched_and_recursion_has_an_end() -> None:
    for parameters in (
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    ):
        with pytest.raises(ApiError, match="wrong arguments"):
            read([write_call("f", "{}")], ToolUse({"f": Tool("f", "", parameters)}))


def test_a_block_without_end_is_given_up() -> None:
    reader = ToolCallReader(USE)
    reader.feed("```tool_call\n")
    reader.feed("x" * MOST_CALL_CHARS)
    with pytest.raises(ApiError, match="no end"):
        reader.feed("x")


async def test_calls_over_the_api_whole_and_streamed(serve: Serve) -> None:
    page = ScriptedPage(pieces=("I look", " it up.\n", *OSLO, "\n", *NOW))
    body = {"model": "demo-small", "messages": [{"role": "user", "content": "Weather?"}], "tools": TOOLS}
    async with serve(page) as client:
        whole = (await (await client.post(URL, json=body)).json())["choices"][0]
        streamed = await (await client.post(URL, json={**body, "stream": True})).text()
    prompt = page.prompts[0][1]
    assert prompt.startswith("Tools:\n")
    assert '"name": "weather"' in prompt
    assert prompt.endswith("\n\nUser:\nWeather?")
    assert whole["finish_reason"] == "tool_calls"
    assert whole["message"]["content"] == "I look it up."
    assert [call["function"]["name"] for call in whole["message"]["tool_calls"]] == ["weather", "now"]
    chunks = [json.loads(block[6:])["choices"][0] for block in streamed.split("\n\n")[:-2]]
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == "I look it up."
    deltas = [call for chunk in chunks for call in chunk["delta"].get("tool_calls", ())]
    assert [(call["index"], call["function"]["name"]) for call in deltas] == [(0, "weather"), (1, "now")]
    assert len({call["id"] for call in deltas}) == 2
    assert chunks[-1]["finish_reason"] == "tool_calls"
    assert streamed.endswith("data: [DONE]\n\n")


async def test_without_parallel_calls_the_answer_ends_with_the_first(serve: Serve) -> None:
    page = ScriptedPage(pieces=(OSLO, "\n", NOW, "\n"), stalls=True)
    body = {
        "model": "demo-small",
        "messages": [{"role": "user", "content": "Weather?"}],
        "tools": TOOLS,
        "parallel_tool_calls": False,
    }
    async with serve(page) as client:
        choice = (await (await client.post(URL, json=body)).json())["choices"][0]
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["weather"]
    assert page.stopped == 1


async def test_tools_that_may_not_be_called_are_not_told_of(serve: Serve) -> None:
    page = ScriptedPage(pieces=(OSLO,))
    body = {
        "model": "demo-small",
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": TOOLS,
        "tool_choice": "none",
    }
    async with serve(page) as client:
        choice = (await (await client.post(URL, json=body)).json())["choices"][0]
    assert page.prompts[0][1] == "Hi"
    assert choice["message"]["content"] == OSLO


async def test_earlier_calls_and_their_results_are_written_out(serve: Serve) -> None:
    page = ScriptedPage()
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Rain."},
        {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": "{}"}},
        {"role": "function", "name": "now", "content": "Noon."},
        {"role": "assistant", "content": None, "refusal": "I will not say."},
    ]
    async with serve(page) as client:
        response = await client.post(URL, json={"model": "demo-small", "messages": messages})
        assert response.status == 200, await response.text()
    assert page.prompts[0][1] == (
        f"User:\nWeather?\n\nAssistant:\n\n{OSLO}\n\nTool (weather):\nRain.\n\n"
        f"Assistant:\n\n{NOW}\n\nFunction (now):\nNoon.\n\nAssistant:\n\nI will not say."
    ).replace("Assistant:\n\n", "Assistant:\n").replace("Function (", "Tool (")


async def test_a_bad_call_after_text_ends_the_stream_with_the_error(serve: Serve) -> None:
    page = ScriptedPage(pieces=("Let me see.\n", "```tool_call\n", "{'name'}\n```\n"))
    body = {"model": "demo-small", "messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS, "stream": True}
    async with serve(page) as client:
        whole = await client.post(URL, json={**body, "stream": False})
        assert (whole.status, whole.headers["x-should-retry"]) == (502, "false")
        streamed = await (await client.post(URL, json=body)).text()
    assert "Let me see." in streamed
    assert '"code":"bad_tool_call"' in streamed
    assert "[DONE]" not in streamed

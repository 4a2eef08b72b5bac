"""Anthropic Messages over a scripted page: what is typed, how answers and errors are written, what is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from api_utils.settings import ChildSettings
from browser import errors
from browser.capture.findings import Reasoning
from browser.page.images import ImageLimits
from contract.chat_body import MOST_PARTS
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage, unready
from tests.support.pictures import image

URL = "/v1/messages"
COUNT_URL = "/v1/messages/count_tokens"
CALL = '```tool_call\n{"name": "weather", "arguments": {"city": "Oslo"}}\n```'
WEATHER = {"name": "weather", "input_schema": {"type": "object", "required": ["city"]}}
PICTURE = image(mark=b"of a test")


def ask(content: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "demo-small", "max_tokens": 100, "messages": [{"role": "user", "content": content}], **more}


def picture(**source: Any) -> dict[str, Any]:
    data = base64.b64encode(PICTURE.data).decode()
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data, **source}}


def result(content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **more}


def events(body: str) -> list[dict[str, Any]]:
    """Return the events; each is named as its data says, and a comment ends the stream."""
    *blocks, last, rest = body.split("\n\n")
    assert (last, rest) == (": end", "")
    read = []
    for block in blocks:
        name, data = block.split("\n")
        read.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {read[-1]['type']}"
    return read


async def test_a_whole_answer(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        response = await client.post(
            URL, json=ask(), headers={"x-request-id": "r-1", "anthropic-version": "2023-06-01"}
        )
        body = await response.json()
    assert response.headers["x-usage"] == "estimated"
    assert body == {
        "id": "msg_r-1",
        "type": "message",
        "role": "assistant",
        "model": "demo-small",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }


async def test_a_streamed_answer(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        response = await client.post(URL, json=ask(stream=True), headers={"x-request-id": "r-1"})
        received = events(await response.text())
    assert response.headers["content-type"].startswith("text/event-stream")
    shared = {"id": "msg_r-1", "type": "message", "role": "assistant", "model": "demo-small"}
    nothing: dict[str, Any] = {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 0},
    }
    assert received == [
        {"type": "message_start", "message": {**shared, **nothing}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"input_tokens": 1, "output_tokens": 2},
        },
        {"type": "message_stop"},
    ]


async def test_reasoning_is_a_block_of_thinking(serve: Serve) -> None:
    page = ScriptedPage(pieces=(Reasoning("So, "), Reasoning("rain."), "It ", "rains"))
    async with serve(page) as client:
        whole = await (await client.post(URL, json=ask())).json()
        received = events(await (await client.post(URL, json=ask(stream=True))).text())
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    assert whole["content"] == [{**thinking, "thinking": "So, rain."}, {"type": "text", "text": "It rains"}]
    assert received[1:-2] == [
        {"type": "content_block_start", "index": 0, "content_block": thinking},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "So, "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "rain."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "It "}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "rains"}},
        {"type": "content_block_stop", "index": 1},
    ]


async def test_calls_stand_in_blocks_of_their_own(serve: Serve) -> None:
    """Text after a call begins a block again."""
    page = ScriptedPage(pieces=(f"Look:\n{CALL}\n", f"And:\n{CALL}\n"))
    async with serve(page) as client:
        received = events(await (await client.post(URL, json=ask(tools=[WEATHER], stream=True))).text())
        whole = await (await client.post(URL, json=ask(tools=[WEATHER]))).json()
    begun = [(event["index"], event["content_block"]) for event in received if event["type"] == "content_block_start"]
    assert [(index, block["type"]) for index, block in begun] == [
        (0, "text"),
        (1, "tool_use"),
        (2, "text"),
        (3, "tool_use"),
    ]
    assert begun[1][1] | {"id": ""} == {"type": "tool_use", "id": "", "name": "weather", "input": {}}
    assert [event["index"] for event in received if event["type"] == "content_block_stop"] == [0, 1, 2, 3]
    deltas = {event["index"]: event["delta"] for event in received if event["type"] == "content_block_delta"}
    assert json.loads(deltas[1]["partial_json"]) == {"city": "Oslo"}
    assert received[-2]["delta"]["stop_reason"] == whole["stop_reason"] == "tool_use"
    assert [block["type"] for block in whole["content"]] == ["text", "tool_use", "tool_use"]
    assert whole["content"][1]["input"] == {"city": "Oslo"}
    ids = {block["id"] for block in (*whole["content"][1:], begun[1][1], begun[3][1])}
    assert len(ids) == 4
    assert all(one.startswith("toolu_") for one in ids)


async def test_reasoning_between_text_and_calls_is_a_block_each_time(serve: Serve) -> None:
    page = ScriptedPage(pieces=(Reasoning("Hm."), "Look:", Reasoning("Oh."), f"\n{CALL}\n", "Done."))
    async with serve(page) as client:
        received = events(await (await client.post(URL, json=ask(tools=[WEATHER], stream=True))).text())
        whole = await (await client.post(URL, json=ask(tools=[WEATHER]))).json()
    begun = [event["content_block"]["type"] for event in received if event["type"] == "content_block_start"]
    assert begun == ["thinking", "text", "thinking", "tool_use", "text"]
    assert [event["index"] for event in received if event["type"] == "content_block_stop"] == [0, 1, 2, 3, 4]
    assert [block["type"] for block in whole["content"]] == ["thinking", "text", "tool_use"]
    assert whole["content"][0]["thinking"] == "Hm.Oh."


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("given", "text", "reason", "sequence"),
    [
        ({"stop_sequences": ["x", "lo w"]}, "Hel", "stop_sequence", "lo w"),
        ({"stop_sequences": ["world", "wor", ""]}, "Hello ", "stop_sequence", "wor"),
        ({"stop_sequences": ["orld", "world"]}, "Hello ", "stop_sequence", "world"),
        ({"stop_sequences": ["nowhere"]}, "Hello world", "end_turn", None),
        ({"max_tokens": 2}, "Hello wo", "max_tokens", None),
        ({"max_tokens": 1, "stop_sequences": ["world"]}, "Hell", "max_tokens", None),
        ({"max_tokens": None}, "Hello world", "end_turn", None),
    ],
)
async def test_an_answer_says_where_it_ended(
    serve: Serve, given: dict[str, Any], text: str, reason: str, sequence: str | None, *, stream: bool
) -> None:
    async with serve(ScriptedPage(pieces=("Hello", " world"))) as client:
        response = await client.post(URL, json=ask(stream=stream, **given))
        if stream:
            received = events(await response.text())
            deltas = [event["delta"] for event in received if event["type"] == "content_block_delta"]
            got, end = "".join(delta["text"] for delta in deltas), received[-2]["delta"]
        else:
            end = await response.json()
            got = end["content"][0]["text"]
    assert (got, end["stop_reason"], end["stop_sequence"]) == (text, reason, sequence)


async def test_an_empty_answer_is_an_answer(serve: Serve) -> None:
    async with serve(ScriptedPage(pieces=())) as client:
        whole = await (await client.post(URL, json=ask())).json()
        streamed = events(await (await client.post(URL, json=ask(stream=True))).text())
    assert whole["content"] == []
    assert [event["type"] for event in streamed] == ["message_start", "message_delta", "message_stop"]


async def test_usage_is_zero_where_none_is_to_be_estimated(serve: Serve) -> None:
    """Clients fail without one."""
    async with serve(ScriptedPage(), settings=ChildSettings(estimate_usage=False)) as client:
        response = await client.post(URL, json=ask())
        streamed = events(await (await client.post(URL, json=ask(stream=True))).text())
    nothing = {"input_tokens": 0, "output_tokens": 0}
    assert "x-usage" not in response.headers
    assert (await response.json())["usage"] == nothing
    assert streamed[0]["message"]["usage"] == streamed[-2]["usage"] == nothing


async def test_what_is_typed_into_the_page(serve: Serve) -> None:
    page = ScriptedPage(limits=ImageLimits(max_count=3, max_bytes=10_000))
    conversation = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "a secret", "signature": "x"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "Look:", "citations": None},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Tromsø"}},
                {"type": "text", "text": "Done."},
            ],
        },
        {"role": "user", "content": [result("Rain."), {"type": "text", "text": "So?"}, picture()]},
        {
            "role": "user",
            "content": [result([{"type": "text", "text": "No."}, picture()], is_error=True), result(None)],
        },
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "another", "signature": "x"}]},
    ]
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    async with serve(page) as client:
        response = await client.post(URL, json=ask(system=system, messages=conversation))
        assert response.status == 200, await response.text()
        await client.post(URL, json=ask("as it is\n", system=""))
    call = '```tool_call\n{"name": "weather", "arguments": {"city": "Tromsø"}}\n```'
    assert page.prompts[0][1] == "\n\n".join(
        (
            "System:\nBe brief.",
            "User:\na\nb",
            f"Assistant:\nLook:\n{call}",
            "Assistant:\nDone.",
            "Tool (weather):\nRain.",
            "User:\nSo?\n[image 1]",
            "Tool (weather):\nError:\nNo.\n[image 2]",
            "Tool (weather):\n",
        )
    )
    assert page.images[0] == (PICTURE, PICTURE)
    assert page.prompts[1][1] == "as it is\n"


@pytest.mark.parametrize(
    ("choice", "answer", "failed"),
    [
        ({"type": "auto"}, "no call", False),
        ({"type": "any"}, "no call", True),
        ({"type": "tool", "name": "weather"}, "no call", True),
        ({"type": "any"}, CALL, False),
        ({"type": "tool", "name": "weather"}, CALL, False),
    ],
)
async def test_a_call_that_is_asked_for_must_come(
    serve: Serve, choice: dict[str, Any], answer: str, *, failed: bool
) -> None:
    async with serve(ScriptedPage(pieces=(answer,))) as client:
        response = await client.post(URL, json=ask(tools=[WEATHER], tool_choice=choice))
        body = await response.json()
    assert body.get("error", {}).get("code") == ("bad_tool_call" if failed else None)
    assert body["type"] == ("error" if failed else "message")


async def test_how_tools_are_to_be_used(serve: Serve) -> None:
    page = ScriptedPage(pieces=(f"{CALL}\n{CALL}\n",))
    one = {"type": "auto", "disable_parallel_tool_use": True}
    async with serve(page) as client:
        single = await (await client.post(URL, json=ask(tools=[WEATHER], tool_choice=one))).json()
        await client.post(URL, json=ask(tools=[WEATHER], tool_choice={"type": "none"}))
    assert len(single["content"]) == 1
    assert page.prompts[0][1].startswith("Tools:\n")
    assert page.prompts[1][1] == "hi"


async def test_an_answer_that_is_to_be_json(serve: Serve) -> None:
    config = {"format": {"type": "json_schema", "schema": {"type": "object", "required": ["city"]}}, "effort": "low"}
    page = ScriptedPage(pieces=('```json\n{"city": "Oslo"}\n```',))
    async with serve(page) as client:
        answer = await (await client.post(URL, json=ask(output_config=config))).json()
        page.pieces = ("{}",)
        wrong = await (await client.post(URL, json=ask(output_config=config))).json()
    assert page.prompts[0][1].startswith("Format:\n")
    assert answer["content"] == [{"type": "text", "text": '{"city": "Oslo"}'}]
    assert wrong["error"]["code"] == "bad_format"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (ask([{"type": "text"}]), "messages[0].content[0].text", "invalid_request"),
        (ask([{"type": "text", "text": "a"}, {"type": "image"}]), "messages[0].content[1].source", "invalid_request"),
        (ask(["a"]), "messages[0].content[0]", "invalid_request"),
        (ask(7), "messages[0].content", "invalid_request"),
        (ask("  "), "messages", "invalid_request"),
        (ask([]), "messages", "invalid_request"),
        (ask(messages=[]), "messages", "invalid_request"),
        (ask(messages=["a"]), "messages[0]", "invalid_request"),
        (ask(messages=[{"role": "robot", "content": "a"}]), "messages[0].role", "invalid_request"),
        (
            ask([{"type": "text", "text": "a"}, picture(data="AAAA")]),
            "messages[0].content[1].source",
            "invalid_request",
        ),
        (ask([picture(data=None)]), "messages[0].content[0].source.data", "invalid_request"),
        (ask([picture(data="?")]), "messages[0].content[0].source", "invalid_request"),
        (ask([picture(type="url")]), "messages[0].content[0].source", "invalid_request"),
        (ask([picture(type="file")]), "messages[0].content[0].source", "unsupported_parameter"),
        (ask([result([picture(data="AAAA")])]), "messages[0].content[0].content[0].source", "invalid_request"),
        (ask([result([{"type": "text"}])]), "messages[0].content[0].content[0].text", "invalid_request"),
        (ask([result([{"type": "document"}])]), "messages[0].content[0].content[0]", "unsupported_parameter"),
        (ask([result([result("a")])]), "messages[0].content[0].content[0]", "unsupported_parameter"),
        (ask([{"type": "tool_result"}]), "messages[0].content[0].tool_use_id", "invalid_request"),
        (ask([{"type": "document", "source": "x"}]), "messages[0].content[0]", "unsupported_parameter"),
        (ask([{"type": "server_tool_use", "input": 1}]), "messages[0].content[0]", "unsupported_parameter"),
        (
            ask([{"type": "tool_use", "id": "a", "name": "b", "input": {}}]),
            "messages[0].content[0]",
            "unsupported_parameter",
        ),
        (
            ask(messages=[{"role": "assistant", "content": [picture()]}]),
            "messages[0].content[0]",
            "unsupported_parameter",
        ),
        (ask(system=[picture()]), "system[0].type", "invalid_request"),
        (ask(stop_sequences="x"), "stop_sequences", "invalid_request"),
        (ask(max_tokens=0), "max_tokens", "invalid_request"),
        (ask(tools=[{"type": "web_search_20250305", "name": "web_search"}]), "tools[0].type", "unsupported_parameter"),
        (ask(tools=[{"type": "mcp_toolset"}]), "tools[0].type", "unsupported_parameter"),
        (ask(tools=[{"name": "w"}]), "tools[0].input_schema", "invalid_request"),
        (ask(tools=[{"input_schema": {}}]), "tools[0].name", "invalid_request"),
        (ask(tools=[{"name": "no blanks", "input_schema": {}}]), "tools[0].name", "invalid_request"),
        (ask(tools=[WEATHER, WEATHER]), "tools[1].name", "invalid_request"),
        (ask(tools=[{"name": "w", "input_schema": {"type": 7}}]), "tools[0].input_schema", "invalid_request"),
        (ask(tools=[WEATHER], tool_choice={"type": "tool", "name": "x"}), "tool_choice.name", "invalid_request"),
        (ask(tools=[WEATHER], tool_choice={"type": "tool"}), "tool_choice.name", "invalid_request"),
        (ask(tool_choice={"type": "any"}), "tool_choice", "invalid_request"),
        (ask(tools=[WEATHER], tool_choice="auto"), "tool_choice", "invalid_request"),
        (ask(output_config={"format": {"type": "xml"}}), "output_config.format.type", "invalid_request"),
        (
            ask(output_config={"format": {"type": "json_schema", "schema": {"type": 7}}}),
            "output_config.format.schema",
            "invalid_request",
        ),
        (ask(mcp_servers=[{"url": "https://example.com"}]), "mcp_servers", "unsupported_parameter"),
        (ask(container="c"), "container", "unsupported_parameter"),
        ({"model": "demo-small"}, "messages", "invalid_request"),
        ({"messages": [{"role": "user", "content": "x"}]}, "model", "invalid_request"),
        ([], None, "invalid_request"),
    ],
)
async def test_what_a_page_cannot_honour_is_refused_by_name(
    serve: Serve, body: Any, param: str | None, code: str
) -> None:
    page = ScriptedPage(limits=ImageLimits(max_count=3, max_bytes=10_000))
    async with serve(page) as client:
        response = await client.post(URL, json=body)
        refused = await response.json()
    assert (response.status, refused["type"], refused["error"]["type"]) == (400, "error", "invalid_request_error")
    assert (refused["error"]["param"], refused["error"]["code"]) == (param, code)
    assert not page.prompts


@pytest.mark.parametrize("limits", [None, ImageLimits(max_count=1, max_bytes=10_000)])
async def test_an_image_too_many_is_named_by_its_place(serve: Serve, limits: ImageLimits | None) -> None:
    async with serve(ScriptedPage(limits=limits)) as client:
        response = await client.post(URL, json=ask([result([picture()]), {"type": "text", "text": "a"}, picture()]))
        error = (await response.json())["error"]
    where = "messages[0].content[2].source" if limits else "messages[0].content[0].content[0].source"
    assert (response.status, error["param"]) == (400, where)
    assert where in error["message"]


async def test_results_in_parts_count_as_parts(serve: Serve) -> None:
    """They are as many objects as the parts of messages."""
    many = [{"type": "text", "text": "a"}] * (MOST_PARTS // 2)
    async with serve(ScriptedPage()) as client:
        statuses = [(await client.post(URL, json=ask([result(many)] * number))).status for number in (2, 3)]
    assert statuses == [200, 400]


async def test_what_shapes_sampling_or_accounting_is_accepted(serve: Serve) -> None:
    harmless = {
        "temperature": 0.1,
        "top_p": 1,
        "top_k": 5,
        "metadata": {"user_id": "u"},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "service_tier": "auto",
        "tools": [],
        "stop_sequences": None,
    }
    async with serve(ScriptedPage()) as client:
        assert (await client.post(URL, json=ask(**harmless))).status == 200


async def test_errors_have_the_dialects_form(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text("right\n")
    page, key = ScriptedPage(), {"x-api-key": "right"}
    async with serve(page, key_file=tmp_path / "key.txt", settings=ChildSettings(max_body_bytes=1000)) as client:
        refused = [
            await client.post(URL, json=ask(), headers={"x-api-key": "wrong"}),
            await client.post(COUNT_URL, json=ask(), headers={"x-api-key": "wrong"}),
            await client.post(URL, json=ask(model="claude-x"), headers=key),
            await client.post(f"{URL}/batches", json=ask(), headers=key),
            await client.get(URL, headers=key),
            await client.post(URL, json=ask("x" * 1000), headers=key),
        ]
        page.state = unready("login_expired")
        refused.append(await client.post(URL, json=ask(), headers=key))
        bodies = [await response.json() for response in refused]
    assert [response.status for response in refused] == [401, 401, 404, 404, 405, 413, 503]
    assert [body["error"]["type"] for body in bodies] == [
        "authentication_error",
        "authentication_error",
        "not_found_error",
        "not_found_error",
        "invalid_request_error",
        "request_too_large",
        "overloaded_error",
    ]
    assert all(body["type"] == "error" for body in bodies)


async def test_a_failure_in_mid_stream_ends_it_with_an_error_event(serve: Serve) -> None:
    page = ScriptedPage(failure=errors.StreamIdleTimeout("nothing more came"))
    async with serve(page) as client:
        body = await (await client.post(URL, json=ask(stream=True))).text()
    *_, name, data, end, rest = body.split("\n")
    assert (name, end, rest) == ("event: error", "", "")
    error = json.loads(data.removeprefix("data: "))["error"]
    assert (error["type"], error["code"]) == ("timeout_error", "stream_idle_timeout")
    assert "message_stop" not in body
    assert ": end" not in body


async def test_tokens_are_counted_without_asking_the_page(serve: Serve) -> None:
    """Also while it cannot be asked: what would be typed does not depend on that."""
    page = ScriptedPage(state=unready("quota"), limits=ImageLimits(max_count=1, max_bytes=10_000))
    asked = ask([{"type": "text", "text": "Zwölf"}, picture()], system="Kurz.")
    del asked["max_tokens"]
    async with serve(page) as client:
        response = await client.post(COUNT_URL, json=asked)
        counted = await response.json()
        unknown = await client.post(COUNT_URL, json={**asked, "model": "claude-x"})
    typed = "System:\nKurz.\n\nUser:\nZwölf\n[image 1]"
    assert counted == {"input_tokens": -(-len(typed.encode()) // 4)}
    assert response.headers["x-usage"] == "estimated"
    assert unknown.status == 404
    assert not page.prompts

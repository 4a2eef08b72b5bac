"""The Responses dialect over a scripted page: what becomes the prompt, what is refused, and what comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from api_utils.dialects.responses import parse_responses_request
from api_utils.settings import ChildSettings
from browser import errors
from browser.capture.findings import Reasoning
from browser.page.images import ImageLimits
from contract.api_error import ApiError, code_of, is_error_event
from contract.dialects.responses import EARLIER_FIELD, RESPONSES
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage
from tests.support.pictures import data_url, image

URL = "/v1/responses"
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
CALL = '```tool_call\n{"name": "weather", "arguments": {"city": "Oslo"}}\n```\n'
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "weather", "description": "The weather.", "parameters": SCHEMA}
PICTURE = image()


def ask(said: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "demo-small", "input": said, **more}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def text(said: str) -> dict[str, Any]:
    return {"type": "input_text", "text": said}


def picture(url: Any) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url, "detail": "auto"}


def events(body: str) -> list[dict[str, Any]]:
    """Return a stream's events, each held against the client's own types, and the line with its type against it."""
    found = []
    for block in body.split("\n\n"):
        if block.startswith("event: "):
            name, data = block.split("\n", 1)
            event = json.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            EVENT.validate_python(event, strict=True)
            found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


async def test_a_whole_answer(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        response = await client.post(URL, json=ask(metadata={"a": "b"}), headers={"x-request-id": "r-1"})
        body = await response.json()
    assert response.headers["x-usage"] == "estimated"
    parsed = Response.model_validate(body, strict=True)
    assert (parsed.id, parsed.status, parsed.output_text, parsed.metadata) == (
        "resp_r-1",
        "completed",
        "Hello",
        {"a": "b"},
    )
    assert parsed.usage is not None
    assert (parsed.usage.input_tokens, parsed.usage.output_tokens, parsed.usage.total_tokens) == (1, 2, 3)


async def test_a_streamed_answer_has_the_documented_events_in_their_order(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        response = await client.post(URL, json=ask(stream=True))
        received = await response.text()
    assert received.endswith("\n\n: end\n\n")
    found = events(received)
    assert [event["type"].removeprefix("response.") for event in found] == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]
    assert "".join(event["delta"] for event in found if event["type"].endswith(".delta")) == "Hello"
    assert found[0]["response"]["status"] == "in_progress"
    last = found[-1]["response"]
    assert last["output"] == [found[-2]["item"]]
    assert last["output"][0]["content"][0]["text"] == "Hello"
    assert last["usage"]["total_tokens"] == 3


async def test_reasoning_is_an_item_of_its_own(serve: Serve) -> None:
    page = ScriptedPage(pieces=(Reasoning("So, "), Reasoning("rain."), "It ", "rains"))
    async with serve(page) as client:
        whole = await (await client.post(URL, json=ask())).json()
        found = events(await (await client.post(URL, json=ask(stream=True))).text())
    assert [event["type"].removeprefix("response.") for event in found] == [
        *("created", "in_progress", "output_item.added", "reasoning_summary_part.added"),
        *("reasoning_summary_text.delta", "reasoning_summary_text.delta", "reasoning_summary_text.done"),
        *("reasoning_summary_part.done", "output_item.done", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]
    for output in (whole["output"], found[-1]["response"]["output"]):
        assert [item["type"] for item in output] == ["reasoning", "message"]
        assert output[0]["summary"] == [{"type": "summary_text", "text": "So, rain."}]
        assert output[1]["content"][0]["text"] == "It rains"
    parsed = Response.model_validate(whole, strict=True)
    assert parsed.usage is not None
    assert parsed.usage.output_tokens_details.reasoning_tokens == 3


async def test_a_streamed_answer_with_calls(serve: Serve) -> None:
    page = ScriptedPage(pieces=("I look.\n\n", CALL, CALL))
    async with serve(page) as client:
        whole = await (await client.post(URL, json=ask(tools=[WEATHER]))).json()
        found = events(await (await client.post(URL, json=ask(tools=[WEATHER], stream=True))).text())
    assert [event["type"].removeprefix("response.") for event in found] == [
        *("created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done") * 2,
        "completed",
    ]
    done = [event for event in found if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in done] == [0, 1, 2]
    assert found[-1]["response"]["output"] == [event["item"] for event in done]
    for output in (whole["output"], found[-1]["response"]["output"]):
        assert [item["type"] for item in output] == ["message", "function_call", "function_call"]
        assert output[0]["content"][0]["text"] == "I look."
        assert json.loads(output[1]["arguments"]) == {"city": "Oslo"}
        assert len({item["id"] for item in output}) == len({item.get("call_id") for item in output}) == 3
    assert whole["status"] == found[-1]["response"]["status"] == "completed"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_without_a_word_is_an_empty_message(serve: Serve, *, stream: bool) -> None:
    async with serve(ScriptedPage(pieces=())) as client:
        received = await (await client.post(URL, json=ask(stream=stream))).text()
    body = events(received)[-1]["response"] if stream else json.loads(received)
    assert [part["text"] for part in body["output"][0]["content"]] == [""]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_is_cut_is_incomplete(serve: Serve, *, stream: bool) -> None:
    page = ScriptedPage(pieces=("Hello", " world"))
    async with serve(page) as client:
        received = await (await client.post(URL, json=ask(stream=stream, max_output_tokens=2))).text()
    if stream:
        last = events(received)[-1]
        assert last["type"] == "response.incomplete"
    body = last["response"] if stream else json.loads(received)
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert body["output"][0]["status"] == "incomplete"
    assert body["output"][0]["content"][0]["text"] == "Hello wo"
    assert page.stopped == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_usage_is_null_where_it_is_left_out(serve: Serve, *, stream: bool) -> None:
    async with serve(ScriptedPage(), settings=ChildSettings(estimate_usage=False)) as client:
        response = await client.post(URL, json=ask(stream=stream))
        received = await response.text()
    body = events(received)[-1]["response"] if stream else json.loads(received)
    assert body["usage"] is None
    assert "x-usage" not in response.headers


WRITTEN_OUT = (
    "System:\nBe brief.\n\nUser:\none\n\nAssistant:\ntwo\nno\n"
    '```tool_call\n{"name": "weather", "arguments": {"city": "Oslo"}}\n```\n'
    '```tool_call\n{"name": "time", "arguments": {}}\n```\n\n'
    "Tool (weather):\nRain.\n\nTool (time):\nNoon."
)


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        (ask("hi"), "hi"),
        (ask([{"role": "user", "content": "hi"}]), "hi"),
        (ask([{"type": "message", **user(text("one"), text("two"))}]), "one\ntwo"),
        (ask("hi", instructions="Be brief."), "System:\nBe brief.\n\nUser:\nhi"),
        (
            ask(
                [
                    {"role": "developer", "content": "Be brief."},
                    user(text("one")),
                    {"type": "reasoning", "id": "rs_1", "summary": []},
                    {
                        "type": "message",
                        "role": "assistant",
                        "id": "msg_1",
                        "status": "completed",
                        "content": [
                            {"type": "output_text", "text": "two", "annotations": []},
                            {"type": "refusal", "refusal": "no"},
                        ],
                    },
                    {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Oslo"}'},
                    {"type": "function_call", "call_id": "c2", "name": "time", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c1", "output": "Rain."},
                    {"type": "function_call_output", "call_id": "c2", "output": [text("Noon.")]},
                ]
            ),
            WRITTEN_OUT,
        ),
        (
            ask(
                "three",
                previous_response_id="resp_1",
                **{EARLIER_FIELD: [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]},
            ),
            "User:\none\n\nAssistant:\ntwo\n\nUser:\nthree",
        ),
    ],
)
async def test_what_the_page_is_asked(serve: Serve, body: dict[str, Any], prompt: str) -> None:
    page = ScriptedPage()
    async with serve(page) as client:
        response = await client.post(URL, json=body)
        assert response.status == 200, await response.text()
        assert (await response.json())["previous_response_id"] == body.get("previous_response_id")
    assert [asked for _, asked, _ in page.prompts] == [prompt]


async def test_tools_and_formats_are_those_of_chat(serve: Serve) -> None:
    function = {key: value for key, value in WEATHER.items() if key != "type"}
    chat = {"model": "demo-small", "messages": [{"role": "user", "content": "hi"}]}
    json_schema = {"name": "place", "schema": SCHEMA}
    page = ScriptedPage(pieces=('{"city": "Oslo"}',))
    async with serve(page) as client:
        for ours, theirs in (
            ({"tools": [WEATHER]}, {"tools": [{"type": "function", "function": function}]}),
            (
                {"text": {"format": {"type": "json_schema", **json_schema}}},
                {"response_format": {"type": "json_schema", "json_schema": json_schema}},
            ),
            ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        ):
            assert (await client.post("/v1/chat/completions", json={**chat, **theirs})).status == 200
            assert (await client.post(URL, json=ask(**ours))).status == 200
            (_, wanted, _), (_, asked, _) = page.prompts[-2:]
            assert asked == wanted != "hi"


async def test_the_tools_that_the_page_is_told_of_are_those_of_tool_choice(serve: Serve) -> None:
    named = {"type": "function", "name": "weather"}
    other = {"type": "function", "name": "other", "parameters": {}}
    page = ScriptedPage(pieces=(CALL,))
    async with serve(page) as client:
        for choice, told, line in (
            ("required", ["weather", "other"], "You must call a tool now."),
            (named, ["weather", "other"], "You must call the tool weather now."),
            ({"type": "allowed_tools", "mode": "auto", "tools": [named]}, ["weather"], "If you need no tool"),
            ({"type": "allowed_tools", "mode": "required", "tools": [named]}, ["weather"], "You must call a tool now."),
        ):
            response = await client.post(URL, json=ask(tools=[WEATHER, other], tool_choice=choice))
            assert response.status == 200, await response.text()
            assert (await response.json())["tool_choice"] == choice
            prompt = page.prompts[-1][1]
            assert [name for name in ("weather", "other") if f'"name": "{name}"' in prompt] == told
            assert line in prompt
        # What is not to be called is no reason to refuse.
        assert (await client.post(URL, json=ask(tools=[{"type": "web_search"}], tool_choice="none"))).status == 200
        assert page.prompts[-1][1] == "hi"


async def test_images_reach_the_page(serve: Serve) -> None:
    page = ScriptedPage(limits=ImageLimits(3, 2000))
    output = {"type": "function_call_output", "call_id": "c1", "output": [picture(data_url(PICTURE))]}
    async with serve(page) as client:
        response = await client.post(URL, json=ask([user(text("What?"), picture(data_url(PICTURE))), output]))
        assert response.status == 200, await response.text()
    assert page.images == [(PICTURE, PICTURE)]
    assert page.prompts[0][1] == "User:\nWhat?\n[image 1]\n\nTool:\n[image 2]"


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ([], None, "object"),
        ({"model": "demo-small"}, "input", "required"),
        (ask(7), "input", "string"),
        (ask("hi", stream="perhaps"), "stream", "true or false"),
        (ask("hi", max_output_tokens=0), "max_output_tokens", "greater"),
        (ask("hi", metadata="a"), "metadata", "dictionary"),
        (ask("hi", text={"format": {"type": "yaml"}}), "text.format.type", "json_schema"),
        (ask("hi", text={"format": {"type": "json_schema"}}), "text.format.schema", "missing"),
        (
            ask("hi", text={"format": {"type": "json_schema", "schema": {"type": 7}}}),
            "text.format.schema",
            "JSON Schema",
        ),
        (ask("hi", background=True), "background", "waits"),
        (ask("hi", conversation="conv_1"), "conversation", "previous_response_id"),
        (ask("hi", prompt={"id": "p"}), "prompt", "templates"),
        (ask("hi", top_logprobs=2), "top_logprobs", "probabilities"),
        (ask("hi", include=["message.output_text.logprobs"]), "include", "probabilities"),
        (ask("hi", previous_response_id="resp_1"), "previous_response_id", "coordinator"),
        (ask("hi", tools=[{"type": "web_search"}]), "tools[0].type", "'web_search'"),
        (ask("hi", tools=[WEATHER, {"type": "local_shell"}]), "tools[1].type", "'local_shell'"),
        (ask("hi", tools=[WEATHER, {"type": "custom", "name": "x"}]), "tools[1].type", "'custom'"),
        (ask("hi", tools=[7]), "tools[0]", "dictionary"),
        (ask("hi", tools=[{"type": "function", "name": "a b"}]), "tools[0].name", "pattern"),
        (ask("hi", tools=[WEATHER, WEATHER]), "tools[1].name", "another tool"),
        (ask("hi", tools=[{**WEATHER, "parameters": {"type": 7}}]), "tools[0].parameters", "JSON Schema"),
        (ask("hi", tool_choice="required"), "tool_choice", "no tools"),
        (ask("hi", tool_choice="perhaps"), "tool_choice", "none"),
        (ask("hi", tools=[WEATHER], tool_choice={"type": "function"}), "tool_choice.name", "text"),
        (ask("hi", tools=[WEATHER], tool_choice={"type": "function", "name": "x"}), "tool_choice", "'x'"),
        (ask("hi", tools=[WEATHER], tool_choice={"type": "web_search"}), "tool_choice", "'web_search'"),
        (
            ask("hi", tools=[WEATHER], tool_choice={"type": "allowed_tools", "tools": [{"type": "mcp"}]}),
            "tool_choice.tools[0]",
            "'mcp'",
        ),
        (ask(" "), "input", "neither"),
        (ask([{"type": "reasoning", "id": "rs_1", "summary": []}]), "input", "neither"),
        (ask(["hi"]), "input[0]", "object"),
        (ask([{"role": "tool", "content": "hi"}]), "input[0].role", "developer"),
        (ask([{"role": "user"}]), "input[0].content", "list of parts"),
        (ask([user(text("hi")), user("hi")]), "input[1].content[0]", "object"),
        (ask([user({"type": "input_text"})]), "input[0].content[0].text", "text"),
        (ask([user({"type": "input_file", "file_id": "f"})]), "input[0].content[0]", "'input_file'"),
        (ask([user({"type": "input_image", "file_id": "f"})]), "input[0].content[0].file_id", "data: URL"),
        (ask([user({"type": "input_image"})]), "input[0].content[0].image_url", "text"),
        (ask([{"role": "assistant", "content": [picture("data:")]}]), "input[0].content[0]", "only text"),
        (ask([{"type": "function_call", "call_id": "c", "name": "x"}]), "input[0].arguments", "text"),
        (ask([{"type": "function_call_output", "output": "x"}]), "input[0].call_id", "text"),
        (ask([{"type": "function_call_output", "call_id": "c", "output": 7}]), "input[0].output", "list of parts"),
        (ask([{"type": "item_reference", "id": "msg_1"}]), "input[0]", "coordinator"),
        (ask([{"type": "web_search_call", "id": "ws_1"}]), "input[0]", "'web_search_call'"),
        (ask([{"type": 7}]), "input[0]", "'7'"),
        (ask([user(text("hi"))] * 5000), "input", "4096"),
        (
            ask([user(text("hi"), picture("https://example.com/cat.png"))]),
            "input[0].content[1].image_url",
            "not fetched",
        ),
        (ask([user(text("hi")), user(picture("data:image/png;base64,AAAA"))]), "input[1].content[0].image_url", "PNG"),
        (
            ask("hi", previous_response_id="r", **{EARLIER_FIELD: [user(picture("data:image/png;base64,AAAA"))]}),
            "previous_response_id.content[0].image_url",
            "PNG",
        ),
    ],
)
async def test_what_a_page_cannot_be_given_is_named(serve: Serve, body: Any, param: str | None, says: str) -> None:
    page = ScriptedPage(limits=ImageLimits(3, 2000))
    async with serve(page) as client:
        response = await client.post(URL, json=body)
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, param)
    assert says in error["message"]
    if param:
        assert param in error["message"]
    assert not page.prompts


async def test_a_page_without_images_names_the_callers_part(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        response = await client.post(URL, json=ask([user(text("hi"), picture(data_url(PICTURE)))]))
        error = (await response.json())["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", "input[0].content[1].image_url")


async def test_nobody_can_name_a_place_from_outside(serve: Serve) -> None:
    part = {"type": "image_url", "image_url": "x", "place": "elsewhere", "_place": "elsewhere"}
    body = {"model": "demo-small", "messages": [{"role": "user", "content": [part]}]}
    async with serve(ScriptedPage(limits=ImageLimits(3, 2000))) as client:
        error = (await (await client.post("/v1/chat/completions", json=body)).json())["error"]
    assert error["param"] == "messages[0].content[0].image_url.url"


async def test_an_error_in_a_stream_is_an_event_of_its_own(serve: Serve) -> None:
    page = ScriptedPage(failure=errors.CaptureGap("a frame is missing"))
    async with serve(page) as client:
        received = await (await client.post(URL, json=ask(stream=True))).text()
    assert ": end" not in received
    name, data = received.rstrip("\n").rpartition("\n\n")[2].split("\n")
    assert name == "event: error"
    event = json.loads(data.removeprefix("data: "))
    EVENT.validate_python(event)
    assert event["type"] == "error"
    assert event["code"] == event["error"]["code"] == "capture_gap"
    assert event["message"] == event["error"]["message"]
    assert is_error_event(data.encode())
    assert code_of(received.encode()) == "capture_gap"


async def test_an_error_before_a_stream_has_its_status(serve: Serve) -> None:
    page = ScriptedPage(pieces=(), failure=errors.CaptureGap("a frame is missing"))
    async with serve(page) as client:
        for stream in (True, False):
            response = await client.post(URL, json=ask(stream=stream))
            error = (await response.json())["error"]
            assert (response.status, response.headers["x-should-retry"]) == (502, "false")
            assert (error["code"], error["type"]) == ("capture_gap", "server_error")


NAMES = ["message", "input_text", "input_image", "function_call", "function_call_output", "allowed_tools", "function"]
WORDS = [*NAMES, "user", "assistant", "", "\ud800"]
KEYS = ["type", "role", "content", "text", "image_url", "output", "call_id", "name", "arguments", "tools", "format"]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from([*NAMES, "user", "assistant", "", "\ud800"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)),
    max_leaves=12,
)
FIELDS = ["input", "tools", "tool_choice", "text", "metadata", "include", "instructions", "reasoning", "user", "stream"]


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_whatever_is_sent_is_a_request_or_a_refusal(body: dict[str, Any]) -> None:
    try:
        request = parse_responses_request({"model": "demo-small", "input": "hi", **body})
        assert request.messages
        assert request.tool_use is None or request.tool_use.tools
        assert request.json_format is None or request.json_format.instructions()
        written = request.answer_format("r-1", prompt_tokens=1).begin()
    except ApiError as error:
        assert error.status == 400  # noqa: PT017 - only some raise
    else:
        assert json.loads(written.splitlines()[1][6:])["response"]["model"] == "demo-small"


async def test_what_cannot_be_repeated_is_refused_before_it_is_submitted(serve: Serve) -> None:
    page = ScriptedPage()
    async with serve(page) as client:
        body = json.dumps(ask("hi", metadata={"a": "\ud800"}))
        response = await client.post(URL, data=body, headers={"content-type": "application/json"})
        assert response.status == 400
    assert not page.prompts


def test_the_route_is_openais() -> None:
    assert RESPONSES.path == URL

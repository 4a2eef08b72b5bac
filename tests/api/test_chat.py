"""The child's `/v1` routes over a scripted page: shapes, refusals, failures before and after submission."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from api_utils import chat_response as answer
from api_utils.settings import ChildSettings
from browser import errors
from contract.api_error import NOTHING_SUBMITTED
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage, unready
from tests.support.waiting import HANG_LIMIT_S

URL = "/v1/chat/completions"


def ask(text: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"model": "demo-small", "messages": [{"role": "user", "content": text}], **more}


def tool(name: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "A tool.", "parameters": parameters or {}}}


def events(body: str) -> list[Any]:
    data = [block.removeprefix("data: ") for block in body.split("\n\n") if block.startswith("data: ")]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


async def test_a_whole_answer(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        response = await client.post(URL, json=ask(), headers={"x-request-id": "r-1"})
        body = await response.json()
    assert response.headers["x-request-id"] == "r-1"
    assert body["id"] == "chatcmpl-r-1"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hello", "refusal": None}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert response.headers["x-usage"] == "estimated"


async def test_a_streamed_answer(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        response = await client.post(URL, json=ask(stream=True))
        received = events(await response.text())
    assert response.headers["content-type"].startswith("text/event-stream")
    assert received[-1] == "[DONE]"
    deltas = [event["choices"][0]["delta"] for event in received[:-1]]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello"
    assert received[-2]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("given", "text", "finish_reason"),
    [
        ({"stop": "lo w"}, "Hel", "stop"),
        ({"stop": ["", "d", "wor"]}, "Hello ", "stop"),
        ({"stop": "nowhere"}, "Hello world", "stop"),
        ({"max_tokens": 2}, "Hello wo", "length"),
        ({"max_tokens": 1, "max_completion_tokens": 3}, "Hello world", "stop"),
        ({"max_tokens": 2, "stop": "o w"}, "Hell", "stop"),
    ],
)
async def test_an_answer_ends_where_the_request_says(
    serve: Serve, given: dict[str, Any], text: str, finish_reason: str, *, stream: bool
) -> None:
    page = ScriptedPage(pieces=("Hel", "lo", " w", "orld"))
    async with serve(page) as client:
        response = await client.post(URL, json=ask(stream=stream, **given))
        if stream:
            received = events(await response.text())
            choices = [event["choices"][0] for event in received[:-1]]
            got = "".join(choice["delta"].get("content", "") for choice in choices), choices[-1]["finish_reason"]
        else:
            choice = (await response.json())["choices"][0]
            got = choice["message"]["content"], choice["finish_reason"]
    assert got == (text, finish_reason)
    assert page.stopped == (text != "Hello world")
    assert page.resets == 1


async def test_an_answer_that_was_cut_is_complete_before_the_page_is_free(serve: Serve) -> None:
    """The page never ends its answer; the caller does not wait for that."""
    page = ScriptedPage(pieces=("before", "END", "after"), stalls=True)
    async with serve(page) as client, asyncio.timeout(HANG_LIMIT_S):
        body = await (await client.post(URL, json=ask(stop="END"))).json()
    assert body["choices"][0]["message"]["content"] == "before"
    assert page.stopped == 1


async def test_usage_comes_last_in_a_stream_that_asks_for_it(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        response = await client.post(URL, json=ask(stream=True, stream_options={"include_usage": True}))
        received = events(await response.text())
        without = events(await (await client.post(URL, json=ask(stream=True))).text())
    assert response.headers["x-usage"] == "estimated"
    assert received[-2]["choices"] == []
    assert received[-2]["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert all(event["usage"] is None for event in received[:-2])
    assert not any("usage" in event for event in without[:-1])


async def test_usage_can_be_left_out(serve: Serve) -> None:
    async with serve(ScriptedPage(), settings=ChildSettings(estimate_usage=False)) as client:
        response = await client.post(URL, json=ask())
        assert "usage" not in await response.json()
        assert "x-usage" not in response.headers
        streamed = await client.post(URL, json=ask(stream=True, stream_options={"include_usage": True}))
        assert "usage" not in await streamed.text()


async def test_an_empty_answer_is_an_answer(serve: Serve) -> None:
    async with serve(ScriptedPage(pieces=())) as client:
        whole = await (await client.post(URL, json=ask())).json()
        streamed = events(await (await client.post(URL, json=ask(stream=True))).text())
    assert whole["choices"][0]["message"]["content"] == ""
    assert streamed[0]["choices"][0]["delta"]["role"] == "assistant"
    assert streamed[-1] == "[DONE]"


async def test_what_is_typed_into_the_page(serve: Serve) -> None:
    page = ScriptedPage()
    conversation = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "name": "Ann",
        },
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "go"},
    ]
    async with serve(page) as client:
        await client.post(URL, json={"model": "demo/large", "messages": conversation})
        await client.post(URL, json=ask("as it is\n"))
    assert page.prompts[0][1:] == (
        "System:\nBe brief.\n\nUser (Ann):\na\nb\n\nAssistant:\nok\n\nUser:\ngo",
        "demo/large",
    )
    assert page.prompts[1][1] == "as it is\n"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (ask(tools=[{"type": "function"}]), "tools[0].type"),
        (ask(tools=[{"type": "web_search"}]), "tools[0].type"),
        (ask(tools=[1]), "tools[0]"),
        (ask(tools=[tool("f"), tool("f")]), "tools[1].function.name"),
        (ask(tools=[tool("f", {"type": "sometimes"})]), "tools[0].function.parameters"),
        (ask(tools=[tool("no blanks")]), "tools[0].function.name"),
        (ask(tools=[tool("f")], tool_choice={"type": "function", "function": {"name": "g"}}), "tool_choice"),
        (ask(functions=[{"name": "f"}]), "functions"),
        (ask(tool_choice="required"), "tool_choice"),
        (ask(function_call={"name": "f"}), "function_call"),
        (ask(response_format={"type": "yaml"}), "response_format.type"),
        (ask(response_format={"type": "json_schema"}), "response_format.json_schema"),
        (
            ask(response_format={"type": "json_schema", "json_schema": {"schema": {"type": 7}}}),
            "response_format.json_schema.schema",
        ),
        (ask(n=2), "n"),
        (ask(audio={"voice": "x"}), "audio"),
        (ask(modalities=["text", "audio"]), "modalities"),
        (ask(logprobs=True), "logprobs"),
        (ask(stop=7), "stop"),
        (ask(stop=["x"] * 17), "stop"),
        (ask(max_tokens=0), "max_tokens"),
        (ask(max_completion_tokens="many"), "max_completion_tokens"),
        (ask([{"type": "input_audio", "input_audio": {}}]), "messages[0].content"),
        ({"model": "demo-small", "messages": []}, "messages"),
        ({"model": "demo-small"}, "messages"),
        ({"messages": [{"role": "user", "content": "x"}]}, "model"),
        ({"model": "demo-small", "messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"model": "demo-small", "messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        (ask("  "), "messages"),
        (ask(stream="perhaps"), "stream"),
    ],
)
async def test_what_a_page_cannot_honour_is_refused_by_name(serve: Serve, body: Any, param: str) -> None:
    page = ScriptedPage()
    async with serve(page) as client:
        response = await client.post(URL, json=body)
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, param)
    assert error["type"] == "invalid_request_error"
    assert not page.prompts


async def test_sampling_parameters_are_accepted(serve: Serve) -> None:
    sampling = {
        "temperature": 0.1,
        "top_p": 1,
        "max_tokens": 5,
        "seed": 1,
        "user": "u",
        "n": 1,
        "tools": [],
        "stop": None,
    }
    async with serve(ScriptedPage()) as client:
        assert (await client.post(URL, json=ask(**sampling, stream_options={"include_usage": True}))).status == 200


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[]", "application/json; charset=utf-8", 400),
        (b"\xff", "application/json", 400),
        (b'"' + b"x" * 2000 + b'"', "application/json", 413),
    ],
)
async def test_a_body_that_cannot_be_read(serve: Serve, data: bytes, content_type: str, status: int) -> None:
    settings = ChildSettings(max_body_bytes=1000 if status == 413 else 10**6)
    async with serve(ScriptedPage(), settings=settings) as client:
        response = await client.post(URL, data=data, headers={"content-type": content_type})
        assert response.status == status
        assert set((await response.json())["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("data", "coding", "status"),
    [
        (gzip.compress(json.dumps(ask()).encode(), mtime=0), "gzip", 200),
        (zlib.compress(json.dumps(ask()).encode()), "deflate", 200),
        (json.dumps(ask()).encode(), "identity", 200),
        (json.dumps(ask()).encode(), "br", 415),
        (json.dumps(ask()).encode(), "gzip", 400),
        (gzip.compress(json.dumps(ask()).encode(), mtime=0)[:-1], "gzip", 400),
        (gzip.compress(b" " * 500_000, mtime=0), "gzip", 413),
    ],
)
async def test_a_compressed_body(serve: Serve, data: bytes, coding: str, status: int) -> None:
    async with serve(ScriptedPage(), settings=ChildSettings(max_body_bytes=1000)) as client:
        headers = {"content-type": "application/json", "content-encoding": coding}
        response = await client.post(URL, data=data, headers=headers)
        assert (response.status, len(data) <= 1000) == (status, True), await response.text()


async def test_a_body_that_comes_too_slowly_is_given_up(serve: Serve) -> None:
    """Each byte comes in time, and the whole would take a day."""

    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    settings = ChildSettings(stream_idle_timeout_s=0.1)
    async with serve(ScriptedPage(), settings=settings) as client, asyncio.timeout(30):
        response = await client.post(URL, data=trickle(), headers={"content-type": "application/json"})
        assert (response.status, (await response.json())["error"]["code"]) == (408, "request_timeout")


async def test_models(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        listed = await (await client.get("/v1/models")).json()
        one = await (await client.get("/v1/models/demo/large")).json()
        missing = await client.post(URL, json={**ask(), "model": "gpt-x"})
        code = (await missing.json())["error"]["code"]
    assert [card["id"] for card in listed["data"]] == ["demo-small", "demo/large"]
    assert one["id"] == "demo/large"
    assert (missing.status, code) == (404, "model_not_found")


async def test_keys_are_asked_for_where_they_are_set(serve: Serve, tmp_path: Any) -> None:
    (tmp_path / "key.txt").write_text("right\n")
    settings = ChildSettings(tabfleet_control_token="tok")
    async with serve(ScriptedPage(), key_file=tmp_path / "key.txt", settings=settings) as client:
        sent: list[tuple[dict[str, str], int]] = [
            ({}, 401),
            ({"authorization": "Bearer wrong"}, 401),
            ({"x-tabfleet-token": "wrong"}, 401),
            ({"authorization": "Bearer right"}, 200),
            ({"x-api-key": "right"}, 200),
            ({"x-tabfleet-token": "tok"}, 200),
        ]
        for headers, status in sent:
            response = await client.post(URL, json=ask(), headers=headers)
            assert (response.status, response.headers.get("www-authenticate") == "Bearer") == (status, status == 401)
            assert (await client.get("/v1/models", headers=headers)).status == status
            assert (await client.post("/requests/x/cancel", headers=headers)).status == status


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (errors.PageBroken("the input is gone"), 502),
        (errors.BrowserLost("the browser died"), 502),
        (errors.LoginExpired("logged out"), 503),
        (errors.ClaimLost("another may use the login"), 503),
        (errors.QuotaExceeded("limit reached"), 429),
        (errors.FirstTokenTimeout("nothing came"), 504),
        (errors.StreamIdleTimeout("nothing more came"), 504),
        (errors.CaptureGap("a part is missing"), 502),
    ],
)
@pytest.mark.parametrize("submitted", [True, False])
async def test_a_failure_before_the_first_token_has_a_status(
    serve: Serve, failure: errors.BrowserError, status: int, submitted: bool
) -> None:
    for stream in (True, False):
        page = ScriptedPage(pieces=(), failure=failure, submits=submitted)
        async with serve(page) as client:
            response = await client.post(URL, json=ask(stream=stream))
            shown = 502 if submitted and status in NOTHING_SUBMITTED else status
            assert (response.status, (await response.json())["error"]["code"]) == (shown, failure.reason)
            assert (response.headers.get("x-should-retry") == "false") is submitted


async def test_a_failure_in_mid_stream_ends_it_with_an_error_and_no_done(serve: Serve) -> None:
    page = ScriptedPage(failure=errors.StreamIdleTimeout("nothing more came"))
    async with serve(page) as client:
        received = events(await (await client.post(URL, json=ask(stream=True))).text())
    assert received[-1]["error"]["code"] == "stream_idle_timeout"
    assert "[DONE]" not in received


async def test_a_failure_in_the_middle_of_a_whole_answer_gives_none_of_it(serve: Serve) -> None:
    async with serve(ScriptedPage(failure=errors.PageBroken("gone"))) as client:
        response = await client.post(URL, json=ask())
        assert response.status == 502
        assert "Hel" not in await response.text()


async def test_an_unready_page_is_not_asked(serve: Serve) -> None:
    page = ScriptedPage(state=unready("login_expired"))
    async with serve(page) as client:
        response = await client.post(URL, json=ask())
        assert (response.status, (await response.json())["error"]["code"]) == (503, "login_expired")
    assert "x-should-retry" not in response.headers
    assert not page.prompts


async def test_pauses_are_bridged_with_comments_once_submitted(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "KEEP_ALIVE_S", 0.05)
    page = ScriptedPage(hold_before=asyncio.Event())
    assert page.hold_before is not None
    async with serve(page) as client, client.post(URL, json=ask(stream=True)) as response:
        assert (await response.content.readuntil(b"\n\n")) == b": keep-alive\n\n"
        page.hold_before.set()
        assert events((await response.text()).replace(": keep-alive\n\n", ""))[-1] == "[DONE]"


async def test_a_whole_answer_that_takes_long_begins_with_line_breaks(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "KEEP_ALIVE_S", 0.05)
    page = ScriptedPage(hold_before=asyncio.Event())
    assert page.hold_before is not None
    async with serve(page) as client, client.post(URL, json=ask(), headers={"x-request-id": "r-1"}) as response:
        assert await response.content.readexactly(2) == b"\n\n"
        page.hold_before.set()
        whole = await response.json()
    assert (response.status, response.headers["content-type"]) == (200, "application/json")
    assert (response.headers["x-request-id"], response.headers["x-accel-buffering"]) == ("r-1", "no")
    assert whole["choices"][0]["message"]["content"] == "Hello"


async def test_a_whole_answer_whose_pieces_come_steadily_begins_with_line_breaks_too(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "KEEP_ALIVE_S", 0.2)
    page = ScriptedPage(pieces=("x",) * 30, pause_s=0.02)
    async with serve(page) as client, client.post(URL, json=ask()) as response:
        assert (await response.read()).startswith(b"\n")


@pytest.mark.parametrize("cancelled", [True, False])
async def test_what_fails_after_line_breaks_is_told_in_a_body_that_is_no_json(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    monkeypatch.setattr(answer, "KEEP_ALIVE_S", 0.05)
    page = ScriptedPage(hold_before=asyncio.Event(), failure=errors.QuotaExceeded("limit reached"))
    assert page.hold_before is not None
    async with serve(page) as client, client.post(URL, json=ask(), headers={"x-request-id": "r-1"}) as response:
        assert await response.content.readexactly(1) == b"\n"
        if cancelled:
            await _post(client, {}, "/requests/r-1/cancel")
        else:
            page.hold_before.set()
        body = await response.text()
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)
    assert [event["error"]["code"] for event in events(body.lstrip())] == ["cancelled" if cancelled else "quota"]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_mistake_of_ours_does_not_cut_a_response_that_has_begun(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(answer, "KEEP_ALIVE_S", 0.05)
    page = ScriptedPage(hold_before=asyncio.Event(), failure=RuntimeError("a mistake"))
    assert page.hold_before is not None
    async with serve(page) as client, client.post(URL, json=ask(stream=stream)) as response:
        begun = await response.content.readuntil(b"\n")
        page.hold_before.set()
        body = (begun + await response.read()).decode()
    assert "a mistake" not in body
    assert events(body.lstrip())[-1]["error"]["code"] == "internal_error"


@pytest.mark.parametrize("stream", [True, False])
async def test_no_sign_of_life_comes_before_submission(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    monkeypatch.setattr(answer, "KEEP_ALIVE_S", 0.01)
    page = ScriptedPage(hold_before=asyncio.Event(), submits=False, pieces=(), failure=errors.PromptRejected("differs"))
    async with serve(page) as client:
        running = asyncio.create_task(_post(client, ask(stream=stream)))
        await page.begun.wait()
        await asyncio.wait({running}, timeout=0.1)
        assert page.hold_before is not None
        page.hold_before.set()
        assert (await running)[0] == 502


async def test_a_prompt_that_no_repetition_brings_into_the_page_is_not_to_be_repeated(serve: Serve) -> None:
    for_good = errors.PromptRejected("differs", for_good=True)
    async with serve(ScriptedPage(submits=False, pieces=(), failure=for_good)) as client:
        response = await client.post(URL, json=ask())
        assert (response.status, response.headers["x-should-retry"]) == (400, "false")
        assert (await response.json())["error"]["code"] == "prompt_rejected"


async def test_a_client_that_leaves_ends_the_answer_and_frees_the_page(serve: Serve) -> None:
    page = ScriptedPage(stalls=True)
    async with serve(page) as client:
        async with client.post(URL, json=ask(stream=True)) as response:
            await response.content.readuntil(b"\n\n")
            response.close()
        page.stalls = False
        assert (await client.post(URL, json=ask())).status == 200
    assert page.resets == 2


async def test_cancel_answers_when_the_page_is_fresh_and_not_before(serve: Serve) -> None:
    page = ScriptedPage(stalls=True, slow_reset=asyncio.Event())
    async with (
        serve(page) as client,
        client.post(URL, json=ask(stream=True), headers={"x-request-id": "r-1"}) as response,
    ):
        await response.content.readuntil(b"\n\n")
        cancelling = asyncio.create_task(_post(client, {}, "/requests/r-1/cancel"))
        await asyncio.wait({cancelling}, timeout=0.1)
        assert not cancelling.done()
        assert page.slow_reset is not None
        page.slow_reset.set()
        assert await cancelling == (200, {"fresh": True})
        assert events(await response.text())[-1]["error"]["code"] == "cancelled"
    assert page.resets == 1


async def test_cancel_of_an_ended_request_confirms_a_fresh_page(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        assert await _post(client, {}, "/requests/unknown/cancel") == (200, {"fresh": True})


async def test_a_request_that_comes_after_its_cancel_is_not_asked(serve: Serve) -> None:
    """The coordinator has had the cancel confirmed, and may have given the request to another child."""
    page = ScriptedPage()
    async with serve(page) as client:
        assert await _post(client, {}, "/requests/r-1/cancel") == (200, {"fresh": True})
        late = await client.post(URL, json=ask("late"), headers={"x-request-id": "r-1"})
        assert (late.status, (await late.json())["error"]["code"]) == (503, "cancelled")
        assert (await client.post(URL, json=ask("next"), headers={"x-request-id": "r-2"})).status == 200
    assert [prompt for _, prompt, _ in page.prompts] == ["next"]


async def test_an_id_that_is_in_use_is_refused_and_not_to_be_sent_again(serve: Serve) -> None:
    page = ScriptedPage(hold_before=asyncio.Event())
    assert page.hold_before is not None
    async with serve(page) as client:
        first = asyncio.create_task(client.post(URL, json=ask("one"), headers={"x-request-id": "r-1"}))
        await page.begun.wait()
        second = await client.post(URL, json=ask("two"), headers={"x-request-id": "r-1"})
        assert (second.status, second.headers["x-should-retry"]) == (409, "false")
        page.hold_before.set()
        assert (await first).status == 200
    assert len(page.prompts) == 1


async def test_a_second_request_waits_its_turn_and_a_full_queue_says_so(serve: Serve) -> None:
    page = ScriptedPage(hold_before=asyncio.Event())
    async with serve(page, max_waiting=1) as client:
        first = asyncio.create_task(_post(client, ask("one")))
        await page.begun.wait()
        more = {asyncio.create_task(_post(client, ask("more"))) for _ in range(4)}
        refused: set[asyncio.Task[tuple[int, Any]]] = set()
        while len(refused) < 3:
            refused |= (await asyncio.wait(more - refused, return_when=asyncio.FIRST_COMPLETED))[0]
        assert {task.result()[0] for task in refused} == {429}
        assert len(page.prompts) == 1
        assert page.hold_before is not None
        page.hold_before.set()
        assert (await first)[0] == (await (more - refused).pop())[0] == 200
    assert [prompt for _, prompt, _ in page.prompts] == ["one", "more"]


@pytest.mark.parametrize("request_id", ["../../x", "a b", "é", "x" * 101, "a;b"])
async def test_a_request_id_that_could_harm_a_file_or_a_log_is_refused(serve: Serve, request_id: str) -> None:
    page = ScriptedPage()
    async with serve(page) as client:
        response = await client.post(URL, json=ask(), headers={"x-request-id": request_id})
        assert response.status == 400
    assert not page.prompts


async def test_unknown_routes_have_openai_errors(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        for method, path, status in (("GET", "/v1/nothing", 404), ("GET", URL, 405), ("GET", "/docs", 404)):
            response = await client.request(method, path)
            assert (response.status, "message" in (await response.json())["error"]) == (status, True)


async def _post(client: aiohttp.ClientSession, body: Any, path: str = URL) -> tuple[int, Any]:
    async with client.post(path, json=body) as response:
        return response.status, await response.json()

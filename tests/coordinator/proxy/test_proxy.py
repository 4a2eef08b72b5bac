"""What passes the proxy byte for byte, and what happens when the client or the child breaks the protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from contract.api_error import NOTHING_SUBMITTED, STATUS, ApiError, ErrorCode, code_of
from coordinator.proxy.exchange import Limits, Outcome
from coordinator.proxy.pool import Pool
from coordinator.proxy.response import Sent
from tests.coordinator.proxy.proxied import (
    KEY,
    SOON,
    Caller,
    Conversation,
    ScriptedChildren,
    ask,
    backend,
    chat,
    request,
    scripted,
    served,
    upstream,
)
from tests.support.waiting import eventually

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "x"}]
QUICK = Limits(queue_s=0.2, first_token_s=0.2, idle_s=0.2, keep_alive_s=0, margin_s=0)
SILENT_S = Limits(queue_s=30, first_token_s=30, idle_s=0.5, keep_alive_s=0, margin_s=0)


async def collect(caller: Caller) -> bytes:
    return b"".join([chunk async for chunk in caller.chunks()])


async def test_the_body_reaches_the_child_byte_for_byte(tmp_path: Path) -> None:
    seen: list[Conversation] = []

    async def script(conversation: Conversation) -> None:
        seen.append(conversation)
        await conversation.whole(conversation.body)

    odd = (
        b' {"messages" : [ {"role":"user","content":"\\u00e9 \xc3\xa9 \xf0\x9f\x98\x80"} ],\n'
        b'"model":"fake", "zz": 1.0000000000000000001, "model":"fake"}\r\n '
    )
    large = chat("\u4e00" * 10_000)
    async with scripted(tmp_path, script) as api:
        for body in (odd, large):
            answer = await ask(api.port, request(body))
            assert seen[-1].body == body
            assert answer.body == body


@pytest.mark.parametrize("size", [0, 1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 3 << 18])
async def test_a_whole_answer_of_any_size_comes_back_as_it_is(tmp_path: Path, size: int) -> None:
    answer = bytes(index % 251 for index in range(size))

    async def script(conversation: Conversation) -> None:
        await conversation.whole(answer)

    async with scripted(tmp_path, script) as api:
        assert (await ask(api.port, request(chat()))).body == answer


async def test_a_body_above_a_mebibyte_passes_too(tmp_path: Path) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.whole(b"%d" % len(conversation.body))

    body = chat("x" * 3_000_000)
    async with scripted(tmp_path, script, max_body_bytes=4_000_000) as api:
        assert (await ask(api.port, request(body))).body == b"%d" % len(body)


async def test_a_childs_headers_pass_but_for_those_of_the_connection_and_a_clients_do_not(tmp_path: Path) -> None:
    seen: list[Conversation] = []

    async def script(conversation: Conversation) -> None:
        seen.append(conversation)
        hops = ("connection: x-hop, x-skip", "connection: close", "x-hop: 1", "x-skip: 1", "keep-alive: timeout=9")
        own = ("x-site: caf\u00e9", *hops, "server: child")
        more = ("x-tabfleet-token: the-control-token", "x-request-id: the-childs", "x-twice: 1", "x-twice: 2")
        await conversation.whole(b"{}", "content-type: application/json", *own, *more)

    headers = ("x-stainless-lang: python", "x-many: 1", "x-many: 2", "te: trailers", "connection: keep-alive, x-drop")
    hostile = (
        "x-tabfleet-token: guessed",
        "x-request-id: ../../etc",
        "x-drop: 1",
        "proxy-authorization: Basic eA==",
        f"x-api-key: {KEY}",
    )
    async with scripted(tmp_path, script) as api:
        answer = await ask(api.port, request(chat(), *headers, *hostile))
    sent = seen[0]
    asked = {name.partition(":")[0].lower() for name in (*headers, *hostile)}
    ours = {"x-tabfleet-token", "x-request-id", "connection"}
    for name in ("authorization", "user-agent", *sorted(asked - ours)):
        assert sent.header(name) == [], name
    assert sent.header("content-type") == ["application/json"]
    assert sent.header("x-tabfleet-token") == ["the-control-token"]
    assert sent.header("x-request-id") == [answer.header("x-request-id")]
    names = [name for name, _ in answer.headers]
    assert not {"x-hop", "x-skip", "keep-alive", "server", "x-tabfleet-token"} & set(names)
    assert names.count("date") == names.count("x-request-id") == names.count("content-length") == 1
    assert [value for name, value in answer.headers if name == "x-twice"] == ["1", "2"]


async def test_a_stream_passes_byte_for_byte_and_as_it_comes(tmp_path: Path) -> None:
    more = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.begin_stream()
        await conversation.chunk(b": keep-alive\n\n")
        await conversation.chunk(EVENT)
        await more.wait()
        await conversation.chunk(b"event: odd\r\ndata: \xff\xfe\r\n\r\n")
        await conversation.chunk(EVENT + DONE)
        await conversation.end()

    async with scripted(tmp_path, script) as api:
        caller = await Caller.connect(api.port)
        caller.writer.write(request(chat(stream=True)))
        status, headers = await caller.head()
        first = await caller.reader.readuntil(EVENT)
        assert first.endswith(EVENT)
        more.set()
        rest = await collect_rest(caller)
        assert rest == b"event: odd\r\ndata: \xff\xfe\r\n\r\n" + EVENT + DONE
        assert status == 200
        assert dict(headers)["content-type"] == "text/event-stream"
        stats = (await api.ended())[0].stats
        assert stats.outcome is Outcome.ANSWERED
        assert stats.chunks >= 2
        assert stats.first_token_s is not None
        caller.close()


async def collect_rest(caller: Caller) -> bytes:
    await caller.reader.readline()
    return await collect(caller)


@pytest.mark.parametrize(
    ("sent", "passed_on"),
    [
        (b"", b""),
        (b": keep-alive\n\n", b": keep-alive\n\n"),
        (EVENT, EVENT),
        (EVENT + DONE[:-2], EVENT),
        (EVENT + EVENT[:-20], EVENT),
        (EVENT + b": " + DONE, EVENT + b": " + DONE),
        (EVENT + b'data: "error"\n\n', EVENT + b'data: "error"\n\n'),
    ],
)
@pytest.mark.parametrize("framed", ["in chunks", "by the end of the connection"])
async def test_a_stream_that_ends_in_the_midst_of_an_answer_ends_with_an_error(
    tmp_path: Path, sent: bytes, passed_on: bytes, framed: str
) -> None:
    async def script(conversation: Conversation) -> None:
        if framed == "in chunks":
            await conversation.begin_stream()
            if sent:
                await conversation.chunk(sent)
            await conversation.end()
        else:
            await conversation.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + sent)

    children = ScriptedChildren()
    async with scripted(tmp_path, script, children=children) as api:
        answer = await ask(api.port, request(chat(stream=True)))
        assert answer.body.startswith(passed_on)
        assert answer.body.count(b"\n\n") == passed_on.count(b"\n\n") + 1
        event = json.loads(answer.body.removeprefix(passed_on).removeprefix(b"data: "))
        assert event["error"]["code"] == "child_lost"
        assert await api.outcomes() == [(Outcome.FAILED, "child_lost")]
        assert len(children.cancelled) == 1, "the page may still be at work"


async def test_a_stream_that_ends_with_a_childs_error_passes_as_it_is(tmp_path: Path) -> None:
    stream = EVENT + b'data: {"error":{"message":"data: x","type":"server_error","param":null,"code":"of_its_own"}}\n\n'

    async def script(conversation: Conversation) -> None:
        await conversation.begin_stream()
        await conversation.chunk(stream)
        await conversation.end()

    children = ScriptedChildren()
    async with scripted(tmp_path, script, children=children) as api:
        assert (await ask(api.port, request(chat(stream=True)))).body == stream
        assert await api.outcomes() == [(Outcome.FAILED, "other")]
        assert children.cancelled == []


async def test_one_connection_serves_many_requests(tmp_path: Path) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.whole(b"{}")

    async with scripted(tmp_path, script) as api:
        caller = await Caller.connect(api.port)
        for _ in range(5):
            assert (await caller.ask(request(chat()))).status == 200
            assert (await caller.ask(request(b"{"))).status == 400
        caller.close()


async def test_a_childs_own_error_passes_unchanged(tmp_path: Path) -> None:
    body = b'{"error":{"message":"no tools here","type":"x","param":"tools","code":"unsupported_parameter"}}'

    async def script(conversation: Conversation) -> None:
        await conversation.whole(body, "content-type: application/json", status="400 Bad Request")

    async with scripted(tmp_path, script) as api:
        answer = await ask(api.port, request(chat()))
        assert (answer.status, answer.body) == (400, body)
        assert await api.outcomes() == [(Outcome.REFUSED, "unsupported_parameter")]


@pytest.mark.parametrize("inside", [b"", b'data: {"choi', b"data: 1\n", EVENT[:-1]])
async def test_a_child_that_dies_in_mid_stream_ends_it_with_an_error_event(tmp_path: Path, inside: bytes) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin_stream()
        await conversation.chunk(EVENT)
        if inside:
            await conversation.chunk(inside)
        await asyncio.sleep(0.05)
        conversation.writer.transport.abort()

    children = ScriptedChildren()
    async with scripted(tmp_path, script, children=children) as api:
        caller = await Caller.connect(api.port)
        caller.writer.write(request(chat(stream=True)))
        await caller.head()
        events = (await collect(caller)).split(b"\n\n")
        assert events[0] + b"\n\n" == EVENT
        assert json.loads(events[1].removeprefix(b"data: "))["error"]["code"] == "child_lost"
        assert events[2:] == [b""]
        await eventually(lambda: api.quiet)
        assert children.cancelled
        assert await api.outcomes() == [(Outcome.FAILED, "child_lost")]
        caller.close()


async def test_the_client_library_raises_for_a_stream_that_breaks(tmp_path: Path) -> None:
    calls = 0

    async def script(conversation: Conversation) -> None:
        nonlocal calls
        calls += 1
        await conversation.begin_stream()
        await conversation.chunk(EVENT + b"data: {")
        conversation.writer.close()

    async with scripted(tmp_path, script) as api:
        stream = await api.client().chat.completions.create(
            model="fake", messages=[{"role": "user", "content": "x"}], stream=True
        )
        with pytest.raises(openai.APIError, match="browser"):
            async for _ in stream:
                pass
        assert calls == 1


@pytest.mark.parametrize("where", ["head", "body"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_whole_answer_that_breaks_is_a_proper_error_and_not_repeated(
    tmp_path: Path, where: str, stream: bool
) -> None:
    calls = 0

    async def script(conversation: Conversation) -> None:
        nonlocal calls
        calls += 1
        if where == "body":
            await conversation.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
        conversation.writer.transport.abort()

    async with scripted(tmp_path, script) as api:
        answer = await ask(api.port, request(chat(stream=stream)))
        assert (answer.status, answer.error["code"]) == (502, "child_lost")
        assert answer.header("x-should-retry") == "false"
        with pytest.raises(openai.InternalServerError):
            await api.client().chat.completions.create(model="fake", messages=[{"role": "user", "content": "x"}])
        assert calls == 2
        assert api.quiet


async def test_white_space_before_a_whole_answer_passes_at_once(tmp_path: Path) -> None:
    more = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.begin_stream(content_type="application/json")
        await conversation.chunk(b"\n")
        await more.wait()
        await conversation.chunk(b"\n")
        await conversation.chunk(b'{"id": "one", ')
        await conversation.chunk(b'"choices": []}')
        await conversation.end()

    async with scripted(tmp_path, script) as api:
        caller = await Caller.connect(api.port)
        caller.writer.write(request(chat()))
        status, headers = await caller.head()
        assert (status, dict(headers)["content-type"]) == (200, "application/json")
        assert "content-length" not in dict(headers)
        assert await anext(caller.chunks()) == b"\n"
        more.set()
        assert json.loads(await collect(caller)) == {"id": "one", "choices": []}
        more.clear()
        asking = asyncio.ensure_future(api.client().chat.completions.create(model="fake", messages=MESSAGES))
        await eventually(lambda: api.proxy.in_flight)
        more.set()
        assert (await asking).id == "one"
        caller.close()
        assert await api.outcomes() == [(Outcome.ANSWERED, None)] * 2


@pytest.mark.parametrize("code", ["quota", "child_lost", "shutdown", "stream_idle_timeout"])
async def test_what_fails_after_white_space_is_no_answer_and_is_not_repeated(tmp_path: Path, code: str) -> None:
    """An error in JSON would be an answer without choices to the client, a cut connection a reason to ask again."""
    calls = 0

    async def script(conversation: Conversation) -> None:
        nonlocal calls
        calls += 1
        await conversation.begin_stream(content_type="application/json")
        await conversation.chunk(b"\n")
        await eventually(lambda: all(one._response.sent is Sent.BLANK for one in api.proxy._running))
        match code:
            case "quota":
                await conversation.chunk(b'data: {"error":{"message":"limit","code":"quota"}}\n\n')
                await conversation.end()
            case "child_lost":
                await conversation.chunk(b'{"choices": [')
                conversation.writer.transport.abort()
            case "shutdown":
                api.proxy.cancel_all()
                await conversation.until_closed()
            case _:
                await conversation.until_closed()

    limits = SILENT_S if code == "stream_idle_timeout" else SOON
    async with scripted(tmp_path, script, limits=limits) as api:
        with pytest.raises(json.JSONDecodeError) as raised:
            await api.client().chat.completions.create(model="fake", messages=MESSAGES)
        assert code_of(raised.value.doc.encode()) == code
        assert "choices" not in raised.value.doc
        assert calls == 1
        assert await api.outcomes() == [(Outcome.FAILED, code)]


async def test_a_stream_without_an_end_marker_counts_as_failed(tmp_path: Path) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin_stream()
        await conversation.chunk(EVENT + b'data: {"error":{"message":"x","code":"%b"}}\n\n' % codes.pop(0))
        await conversation.end()

    codes = [b"quota", b"invented"]
    async with scripted(tmp_path, script) as api:
        for prompt in ("one", "two"):
            await ask(api.port, request(chat(prompt, stream=True)))
        assert await api.outcomes() == [(Outcome.FAILED, "quota"), (Outcome.FAILED, "other")]


async def test_a_stream_that_never_begins_is_given_up(tmp_path: Path) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.until_closed()

    children = ScriptedChildren()
    async with scripted(tmp_path, script, children=children, limits=QUICK) as api:
        answer = await ask(api.port, request(chat(stream=True)))
        assert (answer.status, answer.error["code"]) == (504, "first_token_timeout")
        assert answer.header("x-should-retry") == "false"
        await eventually(lambda: api.quiet)
        assert children.cancelled == [answer.header("x-request-id")]


async def test_a_whole_answer_may_take_longer_than_a_first_token(tmp_path: Path) -> None:
    async def script(conversation: Conversation) -> None:
        await asyncio.sleep(0.5)
        await conversation.whole(b"{}")

    async with scripted(tmp_path, script, limits=QUICK) as api:
        assert (await ask(api.port, request(chat()))).status == 200


async def test_a_stream_that_falls_silent_is_ended_with_an_error_event(tmp_path: Path) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin_stream()
        await conversation.chunk(EVENT)
        await conversation.until_closed()

    children = ScriptedChildren()
    async with scripted(tmp_path, script, children=children, limits=SILENT_S) as api:
        answer = await ask(api.port, request(chat(stream=True)))
        assert answer.body.startswith(EVENT)
        assert json.loads(answer.body[len(EVENT) + 6 :])["error"]["code"] == "stream_idle_timeout"
        await eventually(lambda: api.quiet)
        assert len(children.cancelled) == 1


async def flood(conversation: Conversation) -> None:
    await conversation.begin_stream()
    while True:
        await conversation.chunk(b"data: " + b"x" * 60_000 + b"\n\n")


async def flood_whole(conversation: Conversation) -> None:
    await conversation.whole(b"x" * 30_000_001)


@pytest.mark.parametrize("script", [flood, flood_whole])
async def test_the_connection_of_a_client_that_does_not_read_is_aborted(
    tmp_path: Path, script: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(script)
    children = ScriptedChildren()
    async with scripted(tmp_path, script, children=children, limits=SILENT_S) as api:
        caller = await Caller.connect(api.port)
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        caller.writer.write(request(chat(stream=True)))
        await eventually(lambda: api.done and api.quiet, what=lambda: api.done)
        assert await api.outcomes() == [(Outcome.CLIENT_LEFT, "client_stalled")]
        assert len(children.cancelled) == 1
        caller.writer.transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await caller.reader.readexactly(10**9)
    assert not caplog.records, "the server complains about what was meant"


async def test_the_last_event_for_a_client_that_does_not_read_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    children = ScriptedChildren()
    async with scripted(tmp_path, flood, children=children) as api:
        caller = await Caller.connect(api.port)
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        caller.writer.write(request(chat(stream=True)))
        looks = 0

        def stuck() -> bool:
            nonlocal looks
            looks = looks + 1 if any(one._response.blocked for one in api.proxy._running) else 0
            return looks > 20

        await eventually(stuck)
        api.proxy.cancel_all()
        await eventually(lambda: api.done and api.quiet, what=lambda: api.done)
        assert await api.outcomes() == [(Outcome.FAILED, "shutdown")]
        caller.close()
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("when", ["before the head", "after the head"])
async def test_a_client_that_leaves_frees_the_page_and_only_then_the_lease(
    tmp_path: Path, reset: bool, when: str
) -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def script(conversation: Conversation) -> None:
        if when == "after the head":
            await conversation.begin_stream()
            await conversation.chunk(EVENT)
        arrived.set()
        await conversation.until_closed()
        left.set()

    class Slow(ScriptedChildren):
        held_while_cancelling = -1

        async def cancel(self, backend: object, request_id: str) -> bool:
            self.held_while_cancelling = pool.leases_held
            self.cancelled.append(request_id)
            return True

    children, pool = Slow(), Pool(max_queue=100)
    async with upstream(script) as url:
        pool.put(backend(url))
        async with served(pool, children, tmp_path) as api:
            caller = await Caller.connect(api.port)
            caller.writer.write(request(chat(stream=True)))
            await asyncio.wait_for(arrived.wait(), 30)
            if when == "after the head":
                await caller.head()
            (caller.reset if reset else caller.close)()
            await asyncio.wait_for(left.wait(), 30)
            await eventually(lambda: api.quiet)
            assert children.held_while_cancelling == 1
            assert len(children.cancelled) == 1
            assert await api.outcomes() == [(Outcome.CLIENT_LEFT, "client_left")]


async def hang(conversation: Conversation) -> None:
    await conversation.begin_stream()
    await conversation.chunk(EVENT)
    await conversation.until_closed()


async def test_waiting_requests_are_served_in_order_and_a_full_queue_refuses(tmp_path: Path) -> None:
    async with scripted(tmp_path, hang, max_queue=1) as api:
        first, second = await Caller.connect(api.port), await Caller.connect(api.port)
        first.writer.write(request(chat(stream=True)))
        await first.head()
        second.writer.write(request(chat(stream=True)))
        await eventually(lambda: api.pool.queue_length == 1)
        refused = await ask(api.port, request(chat()))
        assert (refused.status, refused.error["code"]) == (429, "queue_full")
        assert refused.error["type"] == "rate_limit_error"
        assert int(refused.header("retry-after") or 0) >= 1
        assert refused.header("x-should-retry") is None
        first.close()
        assert (await asyncio.wait_for(second.head(), 30))[0] == 200
        second.close()
        await eventually(lambda: api.quiet)


async def test_a_request_that_waits_too_long_is_refused(tmp_path: Path) -> None:
    limits = replace(SOON, queue_s=0.1, idle_s=5)
    async with scripted(tmp_path, hang, limits=limits) as api:
        first = await Caller.connect(api.port)
        first.writer.write(request(chat(stream=True)))
        await first.head()
        refused = await ask(api.port, request(chat()))
        assert (refused.status, refused.error["code"]) == (503, "queue_timeout")
        assert refused.header("retry-after")
        first.close()


async def test_a_client_that_leaves_the_queue_is_forgotten(tmp_path: Path) -> None:
    async with scripted(tmp_path, hang) as api:
        first, second = await Caller.connect(api.port), await Caller.connect(api.port)
        first.writer.write(request(chat(stream=True)))
        await first.head()
        second.writer.write(request(chat(stream=True)))
        await eventually(lambda: api.pool.queue_length == 1)
        second.reset()
        await eventually(lambda: api.pool.queue_length == 0)
        assert api.pool.leases_held == 1
        first.close()
        await eventually(lambda: api.quiet)


async def test_an_error_in_the_proxy_itself_is_answered_with_500_and_loses_no_lease(tmp_path: Path) -> None:
    class Broken(ScriptedChildren):
        async def may_retry(self, backend: object, request_id: str) -> bool:
            raise RuntimeError("a bug")

    async def script(conversation: Conversation) -> None:
        conversation.writer.transport.abort()

    async with scripted(tmp_path, script, children=Broken()) as api:
        answer = await ask(api.port, request(chat()))
        assert (answer.status, answer.error["code"]) == (500, "internal_error")
        assert answer.header("x-should-retry") == "false"
        assert "a bug" not in answer.body.decode()
        assert api.quiet


async def test_a_request_that_costs_children_goes_to_one_further_child_at_most(tmp_path: Path) -> None:
    async def dies(conversation: Conversation) -> None:
        conversation.writer.transport.abort()

    pool, children = Pool(max_queue=100), ScriptedChildren(submitted=False, retry=True)
    async with upstream(dies) as url, served(pool, children, tmp_path) as api:
        for name in "abcd":
            pool.put(backend(url, name))
        answer = await ask(api.port, request(chat()))
        assert (answer.status, answer.error["code"]) == (502, "child_lost")
        assert answer.header("x-should-retry") == "false"
        assert (await api.ended())[0].stats.retries == 1
        assert api.quiet


@pytest.fixture
async def two_urls() -> AsyncIterator[tuple[str, str]]:
    async def bad(conversation: Conversation) -> None:
        body = b'{"error":{"message":"m","type":"t","param":null,"code":"starting"}}'
        await conversation.whole(body, "content-type: application/json", status="503 Service Unavailable")

    async def good(conversation: Conversation) -> None:
        await conversation.whole(b'"good"')

    async with upstream(bad) as first, upstream(good) as second:
        yield first, second


@pytest.mark.parametrize(("submitted", "status"), [(False, 200), (True, 502), (None, 502)])
async def test_another_child_takes_what_was_certainly_not_submitted(
    tmp_path: Path, two_urls: tuple[str, str], submitted: bool | None, status: int
) -> None:
    pool = Pool(max_queue=100)
    for name, url in zip("ab", two_urls, strict=True):
        pool.put(backend(url, name))
    async with served(pool, ScriptedChildren(submitted=submitted), tmp_path) as api:
        assert (await ask(api.port, request(chat()))).status == status
        assert (await api.ended())[0].stats.retries == (1 if status == 200 else 0)
        assert api.quiet


async def test_a_childs_refusal_passes_when_nobody_else_is_free(tmp_path: Path, two_urls: tuple[str, str]) -> None:
    pool = Pool(max_queue=100)
    pool.put(backend(two_urls[0]))
    async with served(pool, ScriptedChildren(submitted=False), tmp_path) as api:
        answer = await ask(api.port, request(chat()))
        assert (answer.status, answer.error["code"]) == (503, "starting")


@pytest.mark.parametrize(("submitted", "told"), [(False, None), (True, "false"), (None, "false")])
@pytest.mark.parametrize("status", ["400 Bad Request", "500 Internal Server Error", "503 Service Unavailable"])
async def test_no_error_after_a_possible_submission_invites_a_retry(
    tmp_path: Path, submitted: bool | None, told: str | None, status: str
) -> None:
    """Whatever status the child answers with, its mark of the submission decides."""

    async def script(conversation: Conversation) -> None:
        await conversation.whole(b"{}", status=status)

    async with scripted(tmp_path, script, children=ScriptedChildren(submitted=submitted)) as api:
        answer = await ask(api.port, request(chat()))
        shown = 502 if told and status.startswith("503") else int(status[:3])
        assert (answer.status, answer.header("x-should-retry")) == (shown, told)


@pytest.mark.parametrize("submitted", [True, None])
async def test_no_code_after_a_possible_submission_has_a_status_that_is_sent_again(
    tmp_path: Path, submitted: bool | None
) -> None:
    """Each code as a child gives it, also where it forgets the header or the content type is that of a stream."""

    async def script(conversation: Conversation) -> None:
        body = ApiError(code, "said").body()
        await conversation.whole(body, f"content-type: {kind}", status=f"{STATUS[code]} X")

    async with scripted(tmp_path, script, children=ScriptedChildren(submitted=submitted)) as api:
        for code, kind in itertools.product(ErrorCode, ("application/json", "text/event-stream")):
            answer = await ask(api.port, request(chat(code, stream=kind == "text/event-stream")))
            assert answer.status not in NOTHING_SUBMITTED, code
            assert answer.header("x-should-retry") == "false", code
            assert answer.error["code"] == code


@pytest.mark.parametrize(("retry", "status"), [(True, 200), (False, 502)])
async def test_a_connection_that_breaks_without_a_head_is_retried_only_if_that_is_safe(
    tmp_path: Path, two_urls: tuple[str, str], retry: bool, status: int
) -> None:
    async def script(conversation: Conversation) -> None:
        conversation.writer.transport.abort()

    pool = Pool(max_queue=100)
    async with upstream(script) as breaking:
        pool.put(backend(breaking, "a"))
        pool.put(backend(two_urls[1], "b"))
        async with served(pool, ScriptedChildren(retry=retry), tmp_path) as api:
            assert (await ask(api.port, request(chat()))).status == status
            assert api.quiet


async def test_a_child_that_cannot_be_reached_is_passed_over(tmp_path: Path, two_urls: tuple[str, str]) -> None:
    pool = Pool(max_queue=100)
    pool.put(backend("http://127.0.0.1:1", "a"))
    pool.put(backend(two_urls[1], "b"))
    async with served(pool, ScriptedChildren(), tmp_path) as api:
        assert (await ask(api.port, request(chat()))).body == b'"good"'
        pool.remove("b")
        answer = await ask(api.port, request(chat()))
        assert (answer.status, answer.error["code"]) == (503, "none_ready")
        assert answer.header("x-should-retry") is None


async def test_draining_refuses_new_requests_and_lets_running_ones_finish(tmp_path: Path) -> None:
    finish = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.begin_stream()
        await conversation.chunk(EVENT)
        await finish.wait()
        await conversation.chunk(DONE)
        await conversation.end()

    async with scripted(tmp_path, script) as api:
        running = await Caller.connect(api.port)
        running.writer.write(request(chat(stream=True)))
        await running.head()
        api.pool.begin_drain()
        refused = await ask(api.port, request(chat()))
        assert (refused.status, refused.error["code"]) == (503, "draining")
        assert refused.header("connection") == "close"
        assert (await ask(api.port, request(method="GET", path="/live"))).header("connection") == "close"
        assert not api.quiet
        finish.set()
        assert await collect(running) == EVENT + DONE
        await asyncio.wait_for(api.proxy.wait_idle(), 30)
        running.close()


async def test_cancelled_requests_end_with_an_error_that_the_client_understands(tmp_path: Path) -> None:
    async def script(conversation: Conversation) -> None:
        if b'"stream"' in conversation.body:
            await hang(conversation)
        await conversation.until_closed()

    pool, children = Pool(max_queue=100), ScriptedChildren()
    async with upstream(script) as url:
        for name in "ab":
            pool.put(backend(url, name))
        async with served(pool, children, tmp_path) as api:
            streamed, whole, queued = [await Caller.connect(api.port) for _ in range(3)]
            streamed.writer.write(request(chat(stream=True)))
            await streamed.head()
            asking = asyncio.ensure_future(whole.ask(request(chat())))
            await eventually(lambda: pool.leases_held == 2)
            waiting = asyncio.ensure_future(queued.ask(request(chat())))
            await eventually(lambda: pool.queue_length == 1)
            api.pool.begin_drain()
            api.proxy.cancel_all()
            last = (await collect(streamed)).split(b"\n\n")[-2]
            assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "shutdown"
            cut, refused = await asking, await waiting
            assert (cut.status, cut.error["code"], cut.header("x-should-retry")) == (502, "shutdown", "false")
            assert (refused.status, refused.error["code"], refused.header("x-should-retry")) == (503, "draining", None)
            await asyncio.wait_for(api.proxy.wait_idle(), 30)
            assert api.quiet

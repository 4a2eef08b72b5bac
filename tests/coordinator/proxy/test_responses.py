"""The Responses dialect in the coordinator, over scripted children: what they get, what is kept, and for whom."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter
from starlette.types import Message

from contract.api_error import ApiError, ErrorCode, not_to_be_retried, sse, to_json
from contract.dialects.dialect import END_COMMENT
from contract.dialects.responses import EARLIER_FIELD, RESPONSES
from coordinator.proxy.admission import parse_chat_body
from coordinator.proxy.exchange import Outcome, RequestStats
from coordinator.proxy.headers import HeaderMap
from coordinator.proxy.idempotency import Record
from coordinator.proxy.response_store import ResponseStore, StoreLimits
from coordinator.proxy.responses import Recorder, Responses
from tests.coordinator.proxy.proxied import KEY, Answer, Caller, Conversation, Served, ask, request, scripted
from tests.support.waiting import eventually

PATH = "/v1/responses"
OTHER = "another-key"
ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)


def respond(given: Any = "hi", **more: Any) -> bytes:
    return json.dumps({"model": "fake", "input": given, **more}).encode()


def response(request_id: str, text: str = "Hello", status: str = "completed") -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    item = {"id": f"msg_{request_id}_0", "type": "message", "role": "assistant", "status": status, "content": content}
    return {"id": f"resp_{request_id}", "object": "response", "status": status, "output": [item]}


def event(kind: str, **data: Any) -> bytes:
    return b"event: %b\n" % kind.encode() + sse(to_json({"type": kind, **data}))


def stream_of(whole: dict[str, Any]) -> bytes:
    """Return a stream's events as a child writes them; the text looks like the last event to who reads carelessly."""
    delta = event("response.output_text.delta", delta="\n\nevent: response.completed\ndata: {}\n\n")
    return delta + event(f"response.{whole['status']}", response=whole) + END_COMMENT


@dataclass
class Child:
    """Answers as the test sets it: with a whole response, or with the bytes of a stream."""

    answers: list[bytes | None] = field(default_factory=list)
    got: list[Any] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    async def __call__(self, conversation: Conversation) -> None:
        self.raw.append(conversation.body)
        self.got.append(json.loads(conversation.body))
        (request_id,) = conversation.header("x-request-id")
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            await conversation.begin_stream()
            await conversation.chunk(answer)
            await conversation.end()
        elif self.got[-1].get("stream"):
            await conversation.begin_stream()
            for piece in stream_of(response(request_id)).split(b"r"):
                await conversation.chunk(piece + b"r")
            await conversation.end()
        else:
            await conversation.whole(to_json(response(request_id)), "content-type: application/json")


@asynccontextmanager
async def serving(tmp_path: Path, child: Child, **more: Any) -> AsyncIterator[Served]:
    async with scripted(tmp_path, child, keys=(KEY, OTHER), **more) as api:
        yield api


async def call(api: Served, body: bytes, key: str = KEY) -> Answer:
    return await ask(api.port, request(body, path=PATH, key=key))


async def kept_id(api: Served, given: Any = "one", **more: Any) -> str:
    answer = await call(api, respond(given, **more))
    assert answer.status == 200
    kept: str = json.loads(answer.body)["id"]
    return kept


async def look(api: Served, path: str, key: str = KEY, method: str = "GET") -> Answer:
    return await ask(api.port, request(method=method, path=f"{PATH}/{path}", key=key))


async def test_a_request_that_continues_nothing_passes_byte_for_byte(tmp_path: Path) -> None:
    child = Child()
    odd = b' {"input" : "\\u00e9 \xc3\xa9", "model":"fake", "zz": 1.0000000000000000001, "model":"fake"}\r\n '
    async with serving(tmp_path, child) as api:
        await call(api, odd)
    assert child.raw == [odd]


@pytest.mark.parametrize("odd", [b"[" * 500 + b"]" * 500, b"9" * 5000, b"1e999"])
async def test_what_the_coordinator_need_not_read_is_for_the_child_to_refuse(tmp_path: Path, odd: bytes) -> None:
    got: list[bytes] = []

    async def refuse(conversation: Conversation) -> None:
        got.append(conversation.body)
        await conversation.whole(b"{}", status="400 Bad Request")

    bodies = [
        b'{"model":"fake","input":"hi","metadata":%b}' % odd,
        b'{"model":"fake","input":[{"role":"user","content":"hi","x":%b},"you"],"store":%b}' % (odd, odd),
        b'{"model":"fake","input":[{"type":%b}],"previous_response_id":%b}' % (odd, odd),
        b'{"model":"fake","input":[{"type":7,"id":%b}],"store":null}' % odd,
    ]
    async with scripted(tmp_path, refuse) as api:
        assert [(await call(api, body)).status for body in bodies] == [400] * len(bodies)
    assert got == bodies


async def test_items_that_are_continued_stay_byte_for_byte(tmp_path: Path) -> None:
    child, odd = Child(), b'{"role":"user", "content":"\\u00e9 \xc3\xa9", "zz": 1.0000000000000000001}'
    async with serving(tmp_path, child) as api:
        body = b'{"model":"fake","input":[%b],"previous_response_id":"%b","zz": 1.50}'
        first = await kept_id(api, "one")
        second = json.loads((await call(api, body % (odd, first.encode()))).body)["id"]
        await kept_id(api, "three", previous_response_id=second)
    assert b'"input":[%b]' % odd in child.raw[1]
    assert b'"zz":1.50' in child.raw[1]
    assert odd in child.raw[2]


async def test_a_child_gets_the_conversation_that_is_continued(tmp_path: Path) -> None:
    child, more = Child(), [{"role": "user", "content": "two"}]
    async with serving(tmp_path, child) as api:
        first = await kept_id(api, "one", instructions="Be brief.")
        second = await kept_id(api, more, previous_response_id=first, **{EARLIER_FIELD: ["forged"]})
        await kept_id(api, "three", previous_response_id=second)
    one, answer = {"type": "message", "role": "user", "content": "one"}, response(first[5:])["output"]
    assert child.got[1][EARLIER_FIELD] == [one, *answer]
    assert child.got[2][EARLIER_FIELD] == [one, *answer, *more, *response(second[5:])["output"]]
    assert child.got[2]["input"] == "three"
    assert child.got[2]["previous_response_id"] == second
    assert "instructions" not in child.got[1]


async def test_a_reference_becomes_the_item_that_it_names(tmp_path: Path) -> None:
    child = Child()
    async with serving(tmp_path, child) as api:
        first = await kept_id(api, "one")
        (item,) = response(first[5:])["output"]
        question = {"role": "user", "content": "two"}
        second = await kept_id(api, [{"type": "item_reference", "id": item["id"]}, question])
        assert child.got[1]["input"] == [item, question]
        listed = json.loads((await look(api, f"{second}/input_items?order=asc")).body)
        assert listed["data"][0] == item
        for unknown in (item["id"][:-1] + "7", "msg_none_0", "msg", "../x", 7, None):
            refused = await call(api, respond([question, {"type": "item_reference", "id": unknown}]))
            assert (refused.status, refused.error["param"]) == (404, "input[1].id")
        others = await call(api, respond([{"type": "item_reference", "id": item["id"]}]), key=OTHER)
        assert others.status == 404
    assert len(child.got) == 2


@pytest.mark.parametrize(
    "odd", ["[" * 400 + "]" * 400, "1e999", "12345678901234567890123"], ids=["deep", "large", "long"]
)
async def test_what_only_the_child_looks_into_is_passed_on_as_it_came(tmp_path: Path, odd: str) -> None:
    """The edge holds a body against JSON's grammar; what it cannot hold itself must not fail there."""
    child = Child()
    item = f'{{"role":"user","content":"two","extra":{odd}}}'
    async with serving(tmp_path, child) as api:
        first = await kept_id(api)
        body = f'{{"model":"fake","input":[{item}],"metadata":{odd},"previous_response_id":"{first}"}}'
        answer = await call(api, body.encode())
        assert answer.status == 200
        response_id = json.loads(answer.body)["id"]
        listed = await look(api, f"{response_id}/input_items?order=asc")
        assert (listed.status, odd in listed.body.decode()) == (200, True)
    assert item.encode() in child.raw[-1]
    assert f'"metadata":{odd}'.encode() in child.raw[-1]


async def test_a_response_is_for_its_own_key_only(tmp_path: Path) -> None:
    child = Child()
    async with serving(tmp_path, child) as api:
        first = await kept_id(api)
        refused = await call(api, respond("two", previous_response_id=first), key=OTHER)
        assert (refused.status, refused.error["code"]) == (404, "previous_response_not_found")
        assert refused.error["param"] == "previous_response_id"
        for method, path in (("GET", first), ("DELETE", first), ("GET", f"{first}/input_items")):
            answer = await look(api, path, OTHER, method)
            assert (answer.status, answer.error["code"]) == (404, "response_not_found")
        assert (await look(api, first, key="wrong")).status == 401
        assert json.loads((await look(api, first)).body)["id"] == first
        assert (await look(api, first, method="PATCH")).header("allow") == "DELETE, GET"
        items = await look(api, f"{first}/input_items", method="DELETE")
        assert (items.status, items.header("allow")) == (405, "GET")
    assert len(child.got) == 1


@pytest.mark.parametrize("status", ["completed", "incomplete"])
async def test_a_streamed_response_is_kept(tmp_path: Path, status: str) -> None:
    child = Child([stream_of(response("x", status=status))])
    async with serving(tmp_path, child) as api:
        assert (await call(api, respond(stream=True))).body.endswith(END_COMMENT)
        assert json.loads((await look(api, "resp_x")).body) == response("x", status=status)
        await call(api, respond(stream=True))  # in pieces that end within events
        (request_id,) = {done.request_id for done in (await api.ended())[1:]}
        assert (await look(api, f"resp_{request_id}")).status == 200


@pytest.mark.parametrize(
    "answer",
    [
        stream_of(response("x")).removesuffix(END_COMMENT),
        stream_of(response("x"))[:-30],
        event("response.output_text.delta", delta="Hel")
        + RESPONSES.error_event(not_to_be_retried(ErrorCode.CAPTURE_GAP, "lost")),
    ],
)
async def test_what_has_failed_is_not_kept(tmp_path: Path, answer: bytes) -> None:
    async with serving(tmp_path, Child([answer])) as api:
        received = (await call(api, respond(stream=True))).body
        assert b'event: error\ndata: {"type":"error"' in received
        assert (await look(api, "resp_x")).status == 404
        assert (await api.outcomes())[0][0] is Outcome.FAILED


@pytest.mark.parametrize("status", ["completed", "incomplete"])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("mark", [END_COMMENT, b""], ids=["marked", "before its mark"])
async def test_a_client_that_leaves_with_the_last_event_may_go_on(
    tmp_path: Path, mark: bytes, status: str, *, reset: bool
) -> None:
    """The child holds the stream open: the client leaves first, as one does that has what it asked for."""
    got: list[Any] = []

    async def script(conversation: Conversation) -> None:
        got.append(json.loads(conversation.body))
        if len(got) > 1:
            await conversation.whole(to_json(response("y")), "content-type: application/json")
            return
        await conversation.begin_stream()
        await conversation.chunk(stream_of(response("x", status=status)).removesuffix(END_COMMENT) + mark)
        await conversation.until_closed()

    async with scripted(tmp_path, script) as api:
        await _leave_after(api, f"event: response.{status}", reset=reset)
        assert (await look(api, "resp_x")).status == 200
        await eventually(lambda: api.quiet and api.done)
        assert json.loads((await look(api, "resp_x")).body) == response("x", status=status)
        assert (await call(api, respond("two", previous_response_id="resp_x"))).status == 200
        outcome = Outcome.ANSWERED if mark else Outcome.CLIENT_LEFT
        assert [done for done, _ in await api.outcomes()] == [outcome, Outcome.ANSWERED]
    assert got[1][EARLIER_FIELD][1:] == response("x", status=status)["output"]


async def test_what_the_client_did_not_wait_for_is_not_kept(tmp_path: Path) -> None:
    is_gone = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.begin_stream()
        await conversation.chunk(event("response.output_text.delta", delta="Hel"))
        await is_gone.wait()
        with contextlib.suppress(ConnectionError):
            await conversation.chunk(stream_of(response("x")))

    async with scripted(tmp_path, script) as api:
        await _leave_after(api, "output_text.delta", reset=True)
        await eventually(lambda: not api.server.server_state.connections)
        is_gone.set()
        assert [outcome for outcome, _ in await api.outcomes()] == [Outcome.CLIENT_LEFT]
        assert (await look(api, "resp_x")).status == 404


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("lost", "stalled", "may_go_on"), [(False, False, True), (True, False, False), (False, True, False)]
)
async def test_a_client_that_has_left_may_go_on_with_what_it_can_have_read(
    *, lost: bool, stalled: bool, may_go_on: bool, stream: bool
) -> None:
    """A connection that is lost before the last bytes takes them silently; one that stalls after them drops them."""

    async def send(message: Message) -> None:
        if message.get("body"):
            found.append(responses.show(headers, "resp_x", b""))

    found: list[bytes] = []
    headers, connection = HeaderMap([]), Record(b"", b"", "", RequestStats(), 0)
    responses = Responses(ResponseStore(StoreLimits()), 10_000)
    turn = responses.begin(headers, parse_chat_body(respond(stream=stream), RESPONSES), send, connection)
    kind = b"text/event-stream" if stream else b"application/json"
    await turn.send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    connection.lost = lost
    body = stream_of(response("x")) if stream else to_json(response("x"))
    await turn.send({"type": "http.response.body", "body": body, "more_body": stream})
    connection.stalled = stalled
    turn.forget_unsent()
    assert [json.loads(one) for one in found] == [response("x")]
    if may_go_on:
        responses.show(headers, "resp_x", b"")
        turn.forget()
    with pytest.raises(ApiError):
        responses.show(headers, "resp_x", b"")


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_answered_without_its_client_is_kept_for_the_repeat(tmp_path: Path, *, stream: bool) -> None:
    child, may_answer = Child(), asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await may_answer.wait()
        await child(conversation)

    data = request(respond(stream=stream), "idempotency-key: k", path=PATH)
    async with scripted(tmp_path, script) as api:
        caller = await Caller.connect(api.port)
        caller.writer.write(data)
        await eventually(lambda: api.proxy.in_flight)
        caller.reset()
        await eventually(lambda: not api.server.server_state.connections)
        may_answer.set()
        await eventually(lambda: api.quiet)
        repeat = await ask(api.port, data)
        assert repeat.header("idempotent-replayed") == "true"
        assert (await look(api, f"resp_{repeat.header('x-request-id')}")).status == 200
    assert len(child.got) == 1


async def _leave_after(api: Served, text: str, *, reset: bool) -> None:
    caller = await Caller.connect(api.port)
    caller.writer.write(request(respond(stream=True), path=PATH))
    assert (await caller.head())[0] == 200
    async for chunk in caller.chunks():
        if text.encode() in chunk:
            break
    (caller.reset if reset else caller.close)()


async def test_a_whole_response_after_white_space_is_kept_and_an_error_there_is_not(tmp_path: Path) -> None:
    bodies = [to_json(response("x")), RESPONSES.error_event(not_to_be_retried(ErrorCode.CAPTURE_GAP, "lost"))]

    async def script(conversation: Conversation) -> None:
        await conversation.begin_stream(content_type="application/json")
        await conversation.chunk(b"\n")
        await conversation.chunk(bodies.pop(0))
        await conversation.end()

    async with scripted(tmp_path, script) as api:
        for _ in range(2):
            await call(api, respond())
        assert (await look(api, "resp_x")).status == 200
        assert [outcome for outcome, _ in await api.outcomes()] == [Outcome.ANSWERED, Outcome.FAILED]


async def test_nothing_is_kept_where_the_caller_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, Child()) as api:
        assert (await look(api, await kept_id(api, store=False))).status == 404
        assert (await look(api, await kept_id(api, store=None))).status == 200


async def test_what_is_deleted_cannot_be_continued(tmp_path: Path) -> None:
    async with serving(tmp_path, Child()) as api:
        first = await kept_id(api)
        second = await kept_id(api, previous_response_id=first)
        deleted = await look(api, first, method="DELETE")
        assert json.loads(deleted.body) == {"id": first, "object": "response", "deleted": True}
        assert (await look(api, first, method="DELETE")).status == 404
        assert (await look(api, second)).status == 200
        assert (await call(api, respond(previous_response_id=second))).status == 404


async def test_a_conversation_is_held_to_the_limit_of_a_body_and_of_all_bodies(tmp_path: Path) -> None:
    child = Child()
    async with serving(tmp_path, child, max_body_bytes=3000, max_buffered_bytes=8000) as api:
        first = await kept_id(api, "x" * 1400)
        second = await kept_id(api, "y" * 500, previous_response_id=first)
        refused = await call(api, respond("z" * 1500, previous_response_id=second))
        assert (refused.status, refused.error["code"]) == (413, "body_too_large")
    assert len(child.got) == 2


async def test_references_that_stand_for_more_than_a_body_may_hold_are_refused(tmp_path: Path) -> None:
    child = Child()
    async with serving(tmp_path, child, max_body_bytes=3000) as api:
        first = await kept_id(api)
        (item,) = response(first[5:])["output"]
        many = [{"type": "item_reference", "id": item["id"]}] * (3000 // len(to_json(item)) + 1)
        refused = await call(api, respond(many))
        assert (refused.status, refused.error["code"]) == (413, "body_too_large")
    assert len(child.got) == 1


async def test_what_a_conversation_takes_counts_as_held(tmp_path: Path) -> None:
    child = Child()
    async with serving(tmp_path, child, max_body_bytes=5000, max_buffered_bytes=6000) as api:
        first = await kept_id(api, "x" * 2000)
        refused = await call(api, respond("y" * 1500, previous_response_id=first))
        assert (refused.status, refused.error["code"]) == (503, "buffer_full")
        await kept_id(api, "y", previous_response_id=first)
        # Nothing is held any more: as much as at the beginning can come.
        await kept_id(api, "x" * 2000)
    assert len(child.got) == 3


async def test_the_items_that_a_response_answers_are_listed_in_pages(tmp_path: Path) -> None:
    items = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "one"}]},
        {"role": "assistant", "content": "two"},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "Rain."},
    ]
    async with serving(tmp_path, Child()) as api:
        first = await kept_id(api, items)
        second = await kept_id(api, "three", previous_response_id=first)
        whole = json.loads((await look(api, f"{second}/input_items")).body)
        assert [item["type"] for item in whole["data"]] == [
            *("message", "message", "function_call_output", "function_call", "message", "message", "message")
        ]
        for item in whole["data"]:
            ITEM.validate_python(item)
        assert len({item["id"] for item in whole["data"]}) == 7
        found: list[Any] = []
        more = True
        while more:
            after = f"&after={found[-1]['id']}" if found else ""
            page = json.loads((await look(api, f"{second}/input_items?limit=3{after}")).body)
            assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
            found, more = found + page["data"], page["has_more"]
        assert found == whole["data"]
        ascending = json.loads((await look(api, f"{second}/input_items?order=asc")).body)
        assert ascending["data"] == found[::-1]


@pytest.mark.parametrize("query", ["order=up", "limit=0", "limit=101", "limit=x", "limit=00501", "after=nothing"])
async def test_a_query_that_makes_no_sense_is_named(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path, Child()) as api:
        refused = await look(api, f"{await kept_id(api)}/input_items?{query}")
        assert (refused.status, refused.error["param"]) == (400, query.partition("=")[0])


async def test_a_kept_response_is_not_streamed(tmp_path: Path) -> None:
    async with serving(tmp_path, Child()) as api:
        refused = await look(api, f"{await kept_id(api)}?stream=true")
        assert (refused.status, refused.error["param"]) == (400, "stream")


@pytest.mark.parametrize("previous", ["", "resp_none", "resp_x/input_items"])
async def test_what_was_never_there_cannot_be_continued(tmp_path: Path, previous: str) -> None:
    child = Child()
    async with serving(tmp_path, child) as api:
        refused = await call(api, respond(previous_response_id=previous))
        assert (refused.status, refused.error["code"]) == (404, "previous_response_not_found")
    assert not child.got


@given(
    parts=st.lists(st.sampled_from([b"", b": keep-alive\n\n", event("response.created", response={})]), max_size=4),
    cuts=st.sets(st.integers(0, 500)),
)
def test_a_response_is_found_however_its_last_event_is_cut(parts: list[bytes], cuts: set[int]) -> None:
    """Whole events pass, or parts of one above 1 MiB: its name and the beginning of its data come together."""
    before, name, data = stream_of(response("x")).rpartition(b"event: response.completed\ndata: ")
    ends = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    first, *more = [data[a:b] for a, b in itertools.pairwise(ends)]
    told = record([*parts, before, name + first, *more], last=data.removesuffix(b"\n" + END_COMMENT), max_bytes=10_000)
    assert told == [response("x")]


@given(blank=st.sampled_from([b"", b"\n", b" \n "]), cuts=st.sets(st.integers(0, 500)))
def test_a_whole_response_is_found_however_it_is_cut(blank: bytes, cuts: set[int]) -> None:
    data = to_json(response("x"))
    ends = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    pieces = [blank, *(data[a:b] for a, b in itertools.pairwise(ends))]
    assert record(pieces, last=data, max_bytes=10_000, kind=b"application/json") == [response("x")]


def test_a_response_that_is_too_large_is_not_told() -> None:
    assert record([stream_of(response("x", "y" * 5000))], last=None, max_bytes=5000) == []


def record(
    pieces: list[bytes], *, last: bytes | None, max_bytes: int, kind: bytes = b"text/event-stream; charset=utf-8"
) -> list[dict[str, Any]]:
    """Return what a recorder tells of an answer; it must pass on all as it is.

    Here the client acts in the very moment in which it is sent something: by the last byte of `last` it must find the
    response, and before that there is none.
    """
    told: list[bytes] = []
    sent = bytearray()

    async def send(message: Message) -> None:
        sent.extend(message.get("body", b""))
        if last is not None:
            assert bool(told) == (last in sent), "the client has the response, and it is not kept yet"

    async def run() -> None:
        recorder = Recorder(send, Record(b"", b"", "", RequestStats(), 0), told.append, max_bytes)
        await recorder({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        for index, piece in enumerate(pieces, 1):
            is_last = index == len(pieces) and last is not None
            await recorder({"type": "http.response.body", "body": piece, "more_body": not is_last})
        assert recorder.was_sent == bool(told)

    asyncio.run(run())
    assert sent == b"".join(pieces)
    return [json.loads(one) for one in told]


def test_an_error_of_the_dialect_is_read_like_any_other() -> None:
    error = ApiError(ErrorCode.CAPTURE_GAP, "lost")
    assert json.loads(RESPONSES.error_body(error)) == json.loads(error.body())

"""Requests with an Idempotency-Key: submitted once, however often they come, and answered with the same bytes."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openai
import pytest

from coordinator.proxy.exchange import Outcome, Repeat, RequestStats
from coordinator.proxy.idempotency import Reader, Record, RecordLimits
from coordinator.proxy.pool import Pool
from tests.coordinator.fake_answer import digest
from tests.coordinator.proxy import test_proxy_children
from tests.coordinator.proxy.proxied import (
    Answer,
    Caller,
    Conversation,
    ScriptedChildren,
    Served,
    ask,
    chat,
    request,
    scripted,
    served,
)
from tests.coordinator.proxy.test_proxy_children import LIMITS, api_over, ask_for, submissions
from tests.support.size import size
from tests.support.waiting import HANG_LIMIT_S, eventually

EVENT = b'data: {"choices":[]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAMS = size(150, 1000)


async def complete(client: openai.AsyncOpenAI, prompt: str, *, stream: bool) -> None:
    answer: Any = await client.chat.completions.create(model="fake", messages=ask_for(prompt), stream=stream)
    if stream:
        async for _ in answer:
            pass


def keyed(body: bytes, key: str = "the-key", *headers: str) -> bytes:
    return request(body, f"idempotency-key: {key}", *headers)


def same(answer: Answer) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return all that a repeat has in common with the first answer; uvicorn dates each anew."""
    own = ("date", "idempotent-replayed")
    return answer.status, [pair for pair in answer.headers if pair[0] not in own], answer.body


@dataclass
class Streamer:
    """A child that streams a chunk whenever the test lets it."""

    chunks: list[bytes]
    reached: list[bytes] = field(default_factory=list)
    go_on: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def __call__(self, conversation: Conversation) -> None:
        self.reached.append(conversation.body)
        await conversation.begin_stream("x-usage: estimated")
        for chunk in self.chunks:
            await self.go_on.acquire()
            await conversation.chunk(chunk)
        await conversation.end()

    def release(self, count: int) -> None:
        for _ in range(count):
            self.go_on.release()


async def test_many_streams_cut_at_any_token_and_repeated_are_submitted_once_each(tmp_path: Path) -> None:
    names = "abcd"
    crowd, dice = asyncio.Semaphore(40), random.Random(12)
    async with api_over(tmp_path, names) as (fleet, api):
        for name in names:
            await fleet.behave(name, tokens=12, token_s=0.001)

        async def cut_and_repeat(number: int, cuts: list[int], *, reset: bool) -> None:
            data = keyed(chat(f"cut {number}", stream=True), f"key-{number}")
            async with crowd:
                for cut in cuts:
                    await leave_after(api, data, cut, reset=reset)
                answers = await asyncio.gather(ask(api.port, data), ask(api.port, data))
            assert same(answers[0]) == same(answers[1])
            assert answers[0].status == 200
            assert answers[0].body.endswith(DONE)
            assert digest(f"cut {number}").encode() in answers[0].body

        async with asyncio.TaskGroup() as group:
            for number in range(STREAMS):
                cuts = [dice.randrange(13) for _ in range(dice.choice((1, 1, 2)))]  # before the head, or a token
                group.create_task(cut_and_repeat(number, cuts, reset=dice.random() < 0.5))
        counted = submissions(fleet, names)
        assert set(counted.values()) == {1}
        assert len(counted) == STREAMS
        await eventually(lambda: api.quiet)


async def leave_after(api: Served, data: bytes, events: int, *, reset: bool) -> None:
    """Send a request and leave after so many events of its answer; before its head for none."""
    caller = await Caller.connect(api.port)
    caller.writer.write(data)
    await caller.writer.drain()
    for _ in range(events):
        await caller.reader.readuntil(b"\n\n")
    (caller.reset if reset else caller.close)()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_repeat_has_the_bytes_and_the_id_of_the_first(tmp_path: Path, *, stream: bool) -> None:
    async with api_over(tmp_path, "a") as (fleet, api):
        data = keyed(chat("once", stream=stream))
        first, second = await ask(api.port, data), await ask(api.port, data)
        assert first.status == 200
        assert same(first) == same(second)
        assert first.header("x-request-id") == (await api.ended())[0].request_id
        assert (first.header("idempotent-replayed"), second.header("idempotent-replayed")) == (None, "true")
        assert submissions(fleet, "a") == {digest("once"): 1}
        assert [(done.stats.outcome, done.stats.repeat) for done in await api.ended()] == [
            (Outcome.ANSWERED, None),
            (Outcome.ANSWERED, Repeat.REPLAYED),
        ]


async def test_repeats_join_a_running_answer_from_its_first_byte(tmp_path: Path) -> None:
    child = Streamer([EVENT, EVENT, DONE])
    async with scripted(tmp_path, child) as api:
        callers = [await Caller.connect(api.port) for _ in range(3)]
        child.release(1)
        for caller in callers:
            caller.writer.write(keyed(chat(stream=True)))
            assert (await caller.head())[0] == 200
            await caller.reader.readuntil(EVENT)
        child.release(2)
        for caller in callers:
            await caller.reader.readuntil(DONE)
            caller.close()
        assert [done.stats.repeat for done in await api.ended()].count(Repeat.JOINED) == 2
        assert len(child.reached) == 1


async def test_an_answer_goes_on_without_any_client_and_counts_as_in_flight(tmp_path: Path) -> None:
    child, children = Streamer([EVENT, EVENT, DONE]), ScriptedChildren()
    async with scripted(tmp_path, child, children=children) as api:
        child.release(1)
        await leave_after(api, keyed(chat(stream=True)), 1, reset=True)
        await eventually(lambda: not open_connections(api))
        assert api.proxy.in_flight == 1
        api.pool.begin_drain()
        assert (await ask(api.port, request(chat(stream=True)))).status == 503
        child.release(2)
        await asyncio.wait_for(api.proxy.wait_idle(), HANG_LIMIT_S)
        late = await ask(api.port, keyed(chat(stream=True)))
        assert (late.body, late.header("connection")) == (EVENT + EVENT + DONE, "close")
        assert children.cancelled == []
        assert (await ask(api.port, keyed(chat("new"), "another"))).error["code"] == "draining"


def open_connections(api: Served) -> int:
    return len(api.server.server_state.connections)


async def test_an_answer_without_a_client_is_ended_with_the_server(tmp_path: Path) -> None:
    child = Streamer([EVENT, DONE])
    async with scripted(tmp_path, child) as api:
        child.release(1)
        await leave_after(api, keyed(chat(stream=True)), 1, reset=True)
        await eventually(lambda: not open_connections(api))
        api.proxy.cancel_all()
        await asyncio.wait_for(api.proxy.wait_idle(), HANG_LIMIT_S)
        answer = await ask(api.port, keyed(chat(stream=True)))
        assert answer.body.startswith(EVENT)
        assert b'"code":"shutdown"' in answer.body
        assert len(child.reached) == 1


@pytest.mark.parametrize("other", [chat("another text", stream=True), chat()], ids=["text", "stream"])
async def test_another_body_under_the_same_key_is_refused(tmp_path: Path, other: bytes) -> None:
    child = Streamer([EVENT + DONE])
    child.release(9)
    async with scripted(tmp_path, child) as api:
        await ask(api.port, keyed(chat(stream=True)))
        refused = await ask(api.port, keyed(other))
        assert (refused.status, refused.error["code"]) == (409, "idempotency_key_reused")
        assert refused.header("x-should-retry") == "false"  # the OpenAI client repeats after 409 without it
        assert len(child.reached) == 1


async def test_the_same_key_of_another_caller_is_another_key(tmp_path: Path) -> None:
    child = Streamer([EVENT + DONE])
    child.release(9)
    async with scripted(tmp_path, child, keys=("one", "two")) as api:
        for header in ("authorization: Bearer one", "authorization: Bearer two", "x-api-key: two"):
            data = request(chat(stream=True), "idempotency-key: k", header, key=None)
            assert (await ask(api.port, data)).body == EVENT + DONE
        assert len(child.reached) == 2, "a key is the same in whichever header it comes"


@pytest.mark.parametrize("key", ["", " ", "two words", "a" * 256, "n\u00e4h"])
async def test_a_malformed_key_is_refused(tmp_path: Path, key: str) -> None:
    child = Streamer([])
    async with scripted(tmp_path, child) as api:
        caller = await Caller.connect(api.port)
        data = request(chat(), "idempotency-key: KEY").replace(b"KEY", key.encode())
        refused = await asyncio.wait_for(caller.ask(data), HANG_LIMIT_S)
        caller.close()
        assert (refused.status, refused.error["code"]) == (400, "invalid_request")
        assert "Idempotency-Key" in refused.error["message"]
        twice = await ask(api.port, keyed(chat(), "a", "idempotency-key: b"))
        assert twice.error["code"] == "invalid_request"
        assert child.reached == []


async def test_what_was_not_submitted_is_tried_anew(tmp_path: Path) -> None:
    pool = Pool(max_queue=10)
    async with served(pool, ScriptedChildren(), tmp_path) as api:
        assert (await ask(api.port, keyed(chat()))).error["code"] == "starting"
    async with api_over(tmp_path, "a") as (fleet, api):
        await fleet.behave("a", error_status=503)
        for _ in range(2):
            answer = await ask(api.port, keyed(chat("once")))
            assert (answer.status, answer.header("idempotent-replayed")) == (503, None)
        await fleet.behave("a", error_status=None)
        assert (await ask(api.port, keyed(chat("once")))).status == 200
        assert submissions(fleet, "a") == {digest("once"): 1}


async def test_those_who_joined_a_request_that_gets_no_page_have_its_error(tmp_path: Path) -> None:
    child = Streamer([EVENT + DONE])
    async with scripted(tmp_path, child) as api:
        held = asyncio.create_task(ask(api.port, request(chat("held", stream=True))))
        await eventually(lambda: child.reached)
        waiting = [asyncio.create_task(ask(api.port, keyed(chat("waits")))) for _ in range(2)]
        await eventually(lambda: api.proxy.in_flight == 3)
        assert api.pool.queue_length == 1
        api.pool.begin_drain()
        for answer in await asyncio.gather(*waiting):
            assert (answer.status, answer.error["code"]) == (503, "draining")
        child.release(1)
        await held
        assert [(done.stats.outcome, done.stats.code) for done in api.done[:2]] == [(Outcome.REFUSED, "draining")] * 2


IN_MID_STREAM: list[dict[str, object]] = [*test_proxy_children.IN_MID_STREAM, {"fail_after": 2}]
FAULTS = [
    *((fault, stream) for fault in test_proxy_children.AFTER_SUBMISSION for stream in (True, False)),
    *((fault, True) for fault in IN_MID_STREAM),
]


@pytest.mark.parametrize(("fault", "stream"), FAULTS, ids=str)
async def test_what_failed_after_its_submission_is_replayed_to_the_real_client(
    tmp_path: Path, fault: dict[str, object], *, stream: bool
) -> None:
    async with api_over(tmp_path, "ab") as (fleet, api):
        for name in "ab":
            await fleet.behave(name, **fault)
        client = api.client(max_retries=5, default_headers={"Idempotency-Key": "k"})
        errors: list[str] = []
        for _ in range(4):
            with pytest.raises(openai.APIError) as raised:
                await complete(client, "once", stream=stream)
            errors.append(repr(raised.value.body))
        assert len(set(errors)) == 1
        assert submissions(fleet, "ab") == {digest("once"): 1}


async def test_an_answer_too_large_to_be_kept_arrives_whole_and_is_not_submitted_again(tmp_path: Path) -> None:
    piece = b"data: " + b"x" * 50_000 + b"\n\n"
    child = Streamer([piece] * 20 + [DONE])
    child.release(99)
    async with scripted(tmp_path, child, records=RecordLimits(one_bytes=100_000)) as api:
        first = await ask(api.port, keyed(chat(stream=True)))
        assert first.body == piece * 20 + DONE
        second = await ask(api.port, keyed(chat(stream=True)))
        assert (second.status, second.error["code"]) == (400, "repeated_after_submission")
        assert len(child.reached) == 1
        assert (await ask(api.port, keyed(chat(stream=True), "new"))).body == first.body


async def test_a_client_that_does_not_read_holds_up_no_other(tmp_path: Path) -> None:
    piece = b"data: " + b"x" * 50_000 + b"\n\n"
    child = Streamer([piece] * 100 + [DONE])
    async with scripted(tmp_path, child) as api:
        slow = await Caller.connect(api.port)
        slow.writer.write(keyed(chat(stream=True)))
        child.release(1)
        assert (await slow.head())[0] == 200
        child.release(100)
        whole = await ask(api.port, keyed(chat(stream=True)))
        assert whole.body == piece * 100 + DONE
        late = b"".join([chunk async for chunk in slow.chunks()])
        slow.close()
        assert late == whole.body


async def test_a_joiner_that_stops_reading_is_reset_and_the_others_get_on(tmp_path: Path) -> None:
    """Above what is kept of one answer, the slowest reader sets the pace, until its time to read is over."""
    piece = b"data: " + b"x" * 500_000 + b"\n\n"
    child = Streamer([piece] * 40 + [DONE])
    child.release(99)
    short = replace(LIMITS, idle_s=0.5)
    async with scripted(tmp_path, child, limits=short, records=RecordLimits(one_bytes=1_000_000)) as api:
        stuck = await Caller.connect(api.port)
        stuck.writer.write(keyed(chat(stream=True)))
        assert (await stuck.head())[0] == 200
        stuck.writer.transport.pause_reading()  # type: ignore[attr-defined]
        assert [outcome for outcome, _ in await api.outcomes()] == [Outcome.ANSWERED]
        stuck.close()


async def test_above_its_limit_an_answer_is_held_no_longer_than_until_all_have_read_it() -> None:
    record = Record(b"name", b"digest", "id", RequestStats(), limit_bytes=1_000)
    fast, slow = Reader(record), Reader(record)
    piece = {"type": "http.response.body", "body": b"x" * 800, "more_body": True}
    await record.send(piece)
    writing = asyncio.create_task(record.send(piece))
    fast.at = 1_600
    record.wake()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not writing.done(), "the slow one still needs all of it"
    slow.at = 700
    record.wake()
    await asyncio.wait_for(writing, HANG_LIMIT_S)
    assert record.piece(700)[0] == b"x" * 900
    record.leave(fast)
    record.leave(slow)
    for _ in range(100):  # without anybody who reads
        await asyncio.wait_for(record.send(piece), HANG_LIMIT_S)
    assert record.held_bytes < 3_000
    assert not record.whole

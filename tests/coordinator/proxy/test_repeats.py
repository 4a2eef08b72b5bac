"""Repeats without an Idempotency-Key: after a failure that may have been submitted, a machine's is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from contract.api_error import ApiError
from coordinator.proxy.admission import parse_chat_body
from coordinator.proxy.exchange import Outcome
from coordinator.proxy.headers import HeaderMap
from coordinator.proxy.repeats import Failures
from tests.coordinator.fake_answer import digest
from tests.coordinator.proxy.proxied import (
    SOON,
    Answer,
    Caller,
    Conversation,
    ScriptedChildren,
    ask,
    chat,
    request,
    scripted,
)
from tests.coordinator.proxy.test_idempotency import DONE, EVENT, FAULTS, complete
from tests.coordinator.proxy.test_proxy_children import api_over, ask_for, submissions
from tests.support.manual_loop import ManualLoop
from tests.support.waiting import eventually

REPEATED = (400, "repeated_after_submission")
RETRY = "x-stainless-retry-count: 1"


def told(answer: Answer) -> tuple[int, Any]:
    return answer.status, answer.error["code"]


@pytest.mark.parametrize(("fault", "stream"), FAULTS, ids=str)
async def test_what_failed_after_its_submission_is_not_submitted_again(
    tmp_path: Path, fault: dict[str, object], *, stream: bool
) -> None:
    """By raw repeats at once, and by the real client, whose own user repeats."""
    async with api_over(tmp_path, "ab") as (fleet, api):
        for name in "ab":
            await fleet.behave(name, **fault)
        client = api.client(max_retries=5)
        with pytest.raises(openai.APIError):
            await complete(client, "once", stream=stream)
        for _ in range(2):
            with pytest.raises(openai.BadRequestError):
                await complete(client, "once", stream=stream)
        assert submissions(fleet, "ab") == {digest("once"): 1}
        body = chat("raw", stream=stream)
        await ask(api.port, request(body))
        for _ in range(3):
            refused = await ask(api.port, request(body))
            assert told(refused) == REPEATED
            assert refused.header("x-should-retry") == "false"
        assert submissions(fleet, "ab") == {digest("once"): 1, digest("raw"): 1}
        assert (await api.outcomes())[-1] == (Outcome.REFUSED, "repeated_after_submission")


async def test_a_refusal_says_what_happened_and_how_to_submit_anyway(tmp_path: Path) -> None:
    async def script(conversation: Conversation) -> None:
        reached.append(conversation.body)

    reached: list[bytes] = []
    async with scripted(tmp_path, script, keys=("test-key", "other-key")) as api:
        assert told(await ask(api.port, request(chat()))) == (502, "child_lost")
        message = (await ask(api.port, request(chat()))).error["message"]
        assert "child_lost" in message
        assert "Idempotency-Key" in message
        assert "60 s" in message
        assert len(reached) == 1
        # Each of these is another request.
        await ask(api.port, request(chat("another text")))
        await ask(api.port, request(chat(), key="other-key"))
        await ask(api.port, request(chat(), "idempotency-key: anyway"))
        assert len(reached) == 4


def test_a_body_is_known_again_whatever_the_child_gets_instead() -> None:
    assert parse_chat_body(chat())._replace(raw=b"{}").came == chat()


async def test_what_was_not_submitted_may_come_again(tmp_path: Path) -> None:
    async with api_over(tmp_path, "a") as (fleet, api):
        await fleet.behave("a", error_status=503)
        for _ in range(2):
            assert (await ask(api.port, request(chat("once")))).status == 503
        await fleet.behave("a", error_status=None)
        for _ in range(2):
            assert (await ask(api.port, request(chat("once")))).status == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_times_out_here_is_not_submitted_again(tmp_path: Path, *, stream: bool) -> None:
    async def script(conversation: Conversation) -> None:
        reached.append(conversation.body)
        if not stream:
            await conversation.begin_stream(content_type="application/json")
            await conversation.chunk(b"\n")
        await conversation.until_closed()

    reached: list[bytes] = []
    async with scripted(tmp_path, script, limits=replace(SOON, first_token_s=0.2, idle_s=0.2)) as api:
        first = await ask(api.port, request(chat(stream=stream)))
        assert b"_timeout" in first.body
        assert told(await ask(api.port, request(chat(stream=stream)))) == REPEATED
        assert len(reached) == 1


@pytest.mark.parametrize(("submitted", "fresh"), [(True, True), (None, True), (False, False), (False, True)])
async def test_after_a_client_that_left_only_a_machines_retry_is_refused(
    tmp_path: Path, submitted: bool | None, *, fresh: bool
) -> None:
    """And that only if its prompt may have been submitted: the child confirms that it was not."""

    async def script(conversation: Conversation) -> None:
        reached.append(conversation.body)
        if len(reached) > 1:
            await conversation.whole(b"{}")
        else:
            await conversation.until_closed()

    reached: list[bytes] = []
    children = ScriptedChildren(submitted=submitted, fresh=fresh)
    async with scripted(tmp_path, script, children=children) as api:
        leaver = await Caller.connect(api.port)
        leaver.writer.write(request(chat(), "x-stainless-retry-count: 0"))
        await eventually(lambda: reached)
        leaver.reset()
        await eventually(lambda: api.quiet)
        machine = await ask(api.port, request(chat(), RETRY))
        assert machine.status == (200 if submitted is False and fresh else 400)
        assert (await ask(api.port, request(chat()))).status == 200


async def test_the_real_client_that_gives_up_waiting_submits_once(tmp_path: Path) -> None:
    async with api_over(tmp_path, "ab") as (fleet, api):
        for name in "ab":
            await fleet.behave(name, first_token_s=60)
        patience = httpx.Timeout(60, read=1.0)
        completions = api.client(max_retries=3, timeout=patience).chat.completions
        with pytest.raises(openai.BadRequestError) as refused:
            await completions.create(model="fake", messages=ask_for("once"))
        assert refused.value.code == "repeated_after_submission"
        assert submissions(fleet, "ab") == {digest("once"): 1}


async def test_a_client_that_leaves_at_an_error_has_seen_a_failure(tmp_path: Path) -> None:
    """Before the child ends its stream: else it would count as a person who pressed stop."""

    async def script(conversation: Conversation) -> None:
        reached.append(conversation.body)
        await conversation.begin_stream()
        await conversation.chunk(EVENT + b'data: {"error":{"message":"x","code":"site_error"}}\n\n')
        await conversation.until_closed()

    reached: list[bytes] = []
    async with scripted(tmp_path, script) as api:
        leaver = await Caller.connect(api.port)
        leaver.writer.write(request(chat(stream=True)))
        await leaver.reader.readuntil(b'"site_error"}}\n\n')
        leaver.reset()
        await eventually(lambda: api.quiet and api.done)
        refused = await ask(api.port, request(chat(stream=True)))
        assert told(refused) == REPEATED
        assert "site_error" in refused.error["message"]
        assert len(reached) == 1


async def test_a_client_that_leaves_with_its_last_event_has_its_answer(tmp_path: Path) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin_stream()
        await conversation.chunk(EVENT + DONE)
        await conversation.until_closed()

    async with scripted(tmp_path, script) as api:
        for _ in range(2):
            leaver = await Caller.connect(api.port)
            leaver.writer.write(request(chat(stream=True), RETRY))
            assert (await leaver.head())[0] == 200
            await leaver.reader.readuntil(DONE)
            leaver.reset()
            await eventually(lambda: api.quiet and api.done)


def test_the_window_is_extended_by_each_repeat() -> None:
    loop = ManualLoop()
    failures = loop.call(Failures, window_s=60.0)

    def refused(body: bytes = b"body") -> bool:
        try:
            failures.check(HeaderMap([]), "/", body)
        except ApiError:
            return True
        return False

    loop.call(failures.add, HeaderMap([]), "/", b"body", "child_lost")
    for _ in range(3):
        loop.advance(59)
        assert refused()
        assert not refused(b"ydob")
    loop.advance(60)
    assert not refused()
    assert len(failures) == 0
    loop.close()

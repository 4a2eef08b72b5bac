"""Repeats in every dialect: one submission, the same bytes, and errors in the dialect's form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.api_error import ApiError, ErrorCode
from contract.dialects import DIALECTS
from contract.dialects.dialect import Dialect
from contract.dialects.responses import RESPONSES
from coordinator.proxy.exchange import Outcome
from tests.coordinator.proxy.proxied import Answer, Caller, Conversation, ask, request, scripted
from tests.coordinator.proxy.test_idempotency import same
from tests.coordinator.proxy.test_responses import Child, response, stream_of
from tests.support.waiting import eventually

EVERY = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.path)


def body_of(dialect: Dialect, text: str = "hello", **more: Any) -> bytes:
    given = text if dialect.may_be_text else [{"role": "user", "content": text}]
    return json.dumps({"model": "fake", dialect.conversation: given, "max_tokens": 9, **more}).encode()


def message_of(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["message"])


@EVERY
async def test_a_cut_stream_is_had_again_by_its_key(tmp_path: Path, dialect: Dialect) -> None:
    child = Child([stream_of(response("1"))])
    async with scripted(tmp_path, child) as api:
        data = request(body_of(dialect, stream=True), "idempotency-key: k", path=dialect.path)
        leaver = await Caller.connect(api.port)
        leaver.writer.write(data)
        await eventually(lambda: child.raw)
        leaver.reset()
        assert await api.outcomes() == [(Outcome.ANSWERED, None)]
        first, second = await ask(api.port, data), await ask(api.port, data)
        assert first.body == stream_of(response("1"))
        assert same(first) == same(second)
        other = request(body_of(dialect, "other"), "idempotency-key: k", path=dialect.path)
        reused = await ask(api.port, other)
        assert (reused.status, len(child.raw)) == (409, 1)
        error = ApiError(ErrorCode.IDEMPOTENCY_KEY_REUSED, message_of(reused))
        assert reused.body == dialect.error_body(error)


@EVERY
async def test_what_failed_is_not_submitted_again(tmp_path: Path, dialect: Dialect) -> None:
    async def script(conversation: Conversation) -> None:
        reached.append(conversation.body)

    reached: list[bytes] = []
    async with scripted(tmp_path, script) as api:
        data = request(body_of(dialect), path=dialect.path)
        assert (await ask(api.port, data)).status == 502
        refused = await ask(api.port, data)
        assert (refused.status, len(reached)) == (400, 1)
        assert "Idempotency-Key" in message_of(refused)
        keyed = request(body_of(dialect), "idempotency-key: k", path=dialect.path)
        failures = [await ask(api.port, keyed) for _ in range(2)]
        assert same(failures[0]) == same(failures[1])
        assert len(reached) == 2


async def test_a_continued_response_that_failed_is_known_by_the_body_that_came(tmp_path: Path) -> None:
    """What its child gets is another one, with the conversation in it."""
    error = b'data: {"type":"error","error":{"message":"x","code":"site_error"}}\n\n'
    child = Child([None, error])
    async with scripted(tmp_path, child) as api:
        first = await ask(api.port, request(body_of(RESPONSES), path=RESPONSES.path))
        name = json.loads(first.body)["id"]
        data = request(body_of(RESPONSES, "go on", previous_response_id=name, stream=True), path=RESPONSES.path)
        assert error in (await ask(api.port, data)).body
        refused = await ask(api.port, data)
        assert (refused.status, len(child.raw)) == (400, 2)


async def test_a_response_that_nobody_waited_for_is_kept_by_its_key(tmp_path: Path) -> None:
    child = Child()
    async with scripted(tmp_path, child) as api:
        data = request(body_of(RESPONSES), "idempotency-key: k", path=RESPONSES.path)
        leaver = await Caller.connect(api.port)
        leaver.writer.write(data)
        await eventually(lambda: child.raw)
        leaver.reset()
        await eventually(lambda: api.quiet)
        answer = await ask(api.port, data)
        name = json.loads(answer.body)["id"]
        kept = await ask(api.port, request(method="GET", path=f"{RESPONSES.path}/{name}"))
        assert json.loads(kept.body) == json.loads(answer.body)
        assert len(child.raw) == 1

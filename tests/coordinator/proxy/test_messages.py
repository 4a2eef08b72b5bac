"""Anthropic Messages through the proxy: the form of its errors, and how its streams end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from contract.dialects.messages import COUNT_TOKENS_PATH, MESSAGES
from coordinator.proxy.exchange import Outcome
from coordinator.proxy.response import Sent
from tests.coordinator.proxy.proxied import KEY, Answer, Conversation, ask, chat, request, scripted
from tests.support.lazy import LazyModule
from tests.support.waiting import HANG_LIMIT_S, eventually

if TYPE_CHECKING:
    import anthropic
else:
    anthropic = LazyModule("anthropic")


async def never(conversation: Conversation) -> None:
    pytest.fail("a request that is refused reached the child")


def error_type(answer: Answer) -> str:
    body = json.loads(answer.body)
    assert body["type"] == "error"
    return str(body["error"]["type"])


@pytest.mark.parametrize("path", [MESSAGES.path, COUNT_TOKENS_PATH])
async def test_what_the_proxy_refuses_has_the_dialects_form(tmp_path: Path, path: str) -> None:
    async with scripted(tmp_path, never) as api:
        refused = [
            await ask(api.port, request(chat(), "host: example.com", path=path)),
            await ask(api.port, request(chat(), path=path, key="wrong")),
            await ask(api.port, request(chat(model="claude-x"), path=path)),
            await ask(api.port, request(b"{}", path=path)),
            await ask(api.port, request(path=path, method="GET")),
        ]
        api.pool.begin_drain()
        refused.append(await ask(api.port, request(chat(), path=path)))
    assert [(answer.status, error_type(answer)) for answer in refused] == [
        (421, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (400, "invalid_request_error"),
        (405, "invalid_request_error"),
        (503, "overloaded_error"),
    ]


async def test_a_stream_of_the_dialect_is_complete_with_its_comment(tmp_path: Path) -> None:
    """And one that breaks off ends in the dialect's error, which the client raises."""
    events = [b'event: message_start\ndata: {"type":"message_start"}\n\n', b'event: x\ndata: {"type":"x"}\n\n']

    async def script(conversation: Conversation) -> None:
        await conversation.begin_stream()
        for event in events:
            await conversation.chunk(event)
        if b"complete" in conversation.body:
            await conversation.chunk(b": end\n\n")
        await conversation.end()

    async with scripted(tmp_path, script) as api, asyncio.timeout(HANG_LIMIT_S):
        whole = await ask(api.port, request(chat("complete", stream=True), path=MESSAGES.path))
        broken = await ask(api.port, request(chat("broken", stream=True), path=MESSAGES.path))
    assert whole.body == b"".join(events) + b": end\n\n"
    sent, _, last = broken.body.partition(b"event: error\ndata: ")
    assert sent == b"".join(events)
    assert json.loads(last)["error"]["code"] == "child_lost"
    assert await api.outcomes() == [(Outcome.ANSWERED, None), (Outcome.FAILED, "child_lost")]


@pytest.mark.parametrize("code", ["quota", "child_lost"])
async def test_what_fails_after_white_space_is_no_answer_and_is_not_repeated(tmp_path: Path, code: str) -> None:
    calls = 0

    async def script(conversation: Conversation) -> None:
        nonlocal calls
        calls += 1
        await conversation.begin_stream(content_type="application/json")
        await conversation.chunk(b"\n")
        await eventually(lambda: all(one._response.sent is Sent.BLANK for one in api.proxy._running))
        if code == "quota":
            await conversation.chunk(b'event: error\ndata: {"type":"error","error":{"code":"quota"}}\n\n')
            await conversation.end()
        else:
            await conversation.chunk(b'{"content": [')
            conversation.writer.transport.abort()

    async with scripted(tmp_path, script) as api, anthropic.AsyncAnthropic(base_url=api.url, api_key=KEY) as client:
        with pytest.raises(json.JSONDecodeError) as raised:
            await client.messages.create(model="fake", max_tokens=10, messages=[{"role": "user", "content": "hi"}])
        assert "event: error" in raised.value.doc
        assert "content" not in raised.value.doc
        assert calls == 1
    assert await api.outcomes() == [(Outcome.FAILED, code)]

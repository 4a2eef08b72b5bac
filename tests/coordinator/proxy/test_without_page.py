"""`count_tokens`: any ready child answers it, also one whose page is busy, and nothing waits for a lease."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contract.dialects.messages import COUNT_TOKENS_PATH
from coordinator.proxy import without_page
from coordinator.proxy.pool import Pool
from tests.coordinator.proxy.proxied import (
    KEY,
    Answer,
    Conversation,
    Script,
    ScriptedChildren,
    Served,
    ask,
    backend,
    chat,
    request,
    served,
    upstream,
)
from tests.support.lazy import LazyModule
from tests.support.waiting import HANG_LIMIT_S

if TYPE_CHECKING:
    import anthropic
else:
    anthropic = LazyModule("anthropic")

REQUEST = request(chat(), path=COUNT_TOKENS_PATH)


async def count(conversation: Conversation) -> None:
    assert conversation.header("x-tabfleet-token") == ["the-control-token"]
    assert conversation.header("authorization") == []
    assert conversation.head.startswith(f"POST {COUNT_TOKENS_PATH} ".encode())
    await conversation.whole(b'{"input_tokens":7}', "x-usage: estimated")


async def break_off(conversation: Conversation) -> None:
    conversation.writer.close()


async def say_nothing(conversation: Conversation) -> None:
    await conversation.until_closed()


@asynccontextmanager
async def two(tmp_path: Path, first: Script, second: Script = count, **more: Any) -> AsyncIterator[Served]:
    """Serve the API over two scripted children; `a` is asked first."""
    pool = Pool(max_queue=0)
    async with upstream(first) as one, upstream(second) as other:
        pool.put(backend(one, "a"))
        pool.put(backend(other, "b"))
        async with served(pool, ScriptedChildren(), tmp_path, **more) as running:
            yield running


def error(answer: Answer) -> dict[str, Any]:
    body = json.loads(answer.body)
    assert body["type"] == "error"
    shown: dict[str, Any] = body["error"]
    return shown


async def test_a_busy_page_counts_at_once_and_without_a_lease(tmp_path: Path) -> None:
    async with two(tmp_path, count) as api:
        leases = [api.pool.try_acquire("fake") for _ in range(3)]
        assert leases.pop() is None
        answer = await ask(api.port, REQUEST)
        assert api.pool.leases_held == 2
        for lease in leases:
            assert lease
            lease.release()
        assert (answer.status, json.loads(answer.body)) == (200, {"input_tokens": 7})
        assert answer.header("x-usage") == "estimated"
        assert answer.header("x-request-id")
        assert not api.done, "it is no request of a page, and the metrics count those"


async def test_the_client_gets_its_count(tmp_path: Path) -> None:
    async with two(tmp_path, count) as api, anthropic.AsyncAnthropic(base_url=api.url, api_key=KEY) as client:
        counted = await client.messages.count_tokens(model="fake", messages=[{"role": "user", "content": "hi"}])
    assert counted.input_tokens == 7


@pytest.mark.parametrize("first", [break_off, say_nothing])
async def test_another_child_counts_where_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Script
) -> None:
    monkeypatch.setattr(without_page, "_ANSWER_S", 0.2 if first is say_nothing else HANG_LIMIT_S)
    async with two(tmp_path, first) as api:
        assert json.loads((await ask(api.port, REQUEST)).body) == {"input_tokens": 7}


async def test_where_no_child_answers_it_is_told_to_come_again(tmp_path: Path) -> None:
    async with two(tmp_path, break_off, break_off) as api:
        answer = await ask(api.port, REQUEST)
    assert (answer.status, error(answer)["code"]) == (503, "none_ready")
    assert error(answer)["type"] == "overloaded_error"
    assert answer.header("retry-after")


async def test_an_unready_child_is_not_asked(tmp_path: Path) -> None:
    async with two(tmp_path, count, count) as api:
        for child in api.pool:
            api.pool.set_ready(child, ready=False)
        answer = await ask(api.port, REQUEST)
    assert (answer.status, error(answer)["code"]) == (503, "none_ready")


async def test_the_least_busy_child_is_asked_first(tmp_path: Path) -> None:
    async with two(tmp_path, break_off) as api:
        lease = api.pool.try_acquire("fake")
        assert lease
        with lease:
            assert lease.backend.name == "a"
            chosen = api.pool.ready_backend("fake")
            assert chosen
            assert chosen.name == "b"
            assert api.pool.ready_backend("fake", exclude=frozenset("b")) is lease.backend
        assert api.pool.ready_backend("another") is None


async def test_a_childs_refusal_passes(tmp_path: Path) -> None:
    async def refuse(conversation: Conversation) -> None:
        await conversation.whole(b'{"type":"error","error":{"code":"invalid_request"}}', status="400 Bad Request")

    async with two(tmp_path, refuse) as api:
        answer = await ask(api.port, REQUEST)
    assert (answer.status, error(answer)) == (400, {"code": "invalid_request"})

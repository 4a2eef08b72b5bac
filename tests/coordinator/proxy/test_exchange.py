"""One exchange that is interrupted at any moment: it ends once, for the first cause, and its lease with it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message

from contract.api_error import ApiError, ErrorCode, code_of
from contract.dialects.chat import CHAT
from coordinator.proxy.admission import parse_chat_body
from coordinator.proxy.exchange import ChatRequest, Exchange, Outcome, ProxyContext, RequestStats
from coordinator.proxy.headers import HeaderMap
from coordinator.proxy.interrupt import Cause
from coordinator.proxy.pool import Backend, Pool
from coordinator.proxy.repeats import Failures
from coordinator.proxy.response import Response
from coordinator.proxy.upstream import Upstream
from tests.coordinator.proxy.proxied import SOON, Conversation, ScriptedChildren, backend, chat, upstream
from tests.support.waiting import eventually

EVENT = b'data: {"choices":[]}\n\n'
DONE = b"data: [DONE]\n\n"


async def unfinished(conversation: Conversation) -> None:
    await conversation.begin_stream()
    await conversation.chunk(EVENT)
    await conversation.until_closed()


async def finished(conversation: Conversation) -> None:
    await conversation.begin_stream()
    await conversation.chunk(EVENT + DONE)
    await conversation.end()


@dataclass
class Client:
    """The ASGI side of a request: what was sent to it, and what it does at each message."""

    messages: list[Message] = field(default_factory=list)
    on_message: Callable[[int], None] = lambda _: None
    when_lost: Callable[[], None] | None = None
    lost: bool = False
    stalled: bool = False

    def abort(self) -> None:
        """Nothing here outlives the messages."""

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        self.on_message(len(self.messages))

    def call_when_lost(self, callback: Callable[[], None]) -> None:
        self.when_lost = callback

    def forget_when_lost(self, callback: Callable[[], None]) -> None:
        if self.when_lost == callback:
            self.when_lost = None

    def leave(self) -> None:
        """Do what a server's connection does at its end."""
        self.lost = True
        if self.when_lost is not None:
            self.when_lost()

    @property
    def ends(self) -> int:
        return sum(one["type"] == "http.response.body" and not one.get("more_body") for one in self.messages)


class SlowChildren(ScriptedChildren):
    """Supervision that frees a page only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.freed = asyncio.Event()
        self.confirmed: list[str] = []

    async def cancel(self, backend: Backend, request_id: str) -> bool:
        await super().cancel(backend, request_id)
        await self.freed.wait()
        self.confirmed.append(request_id)
        return True


@dataclass
class Running:
    exchange: Exchange
    client: Client
    pool: Pool
    stats: RequestStats
    reached: list[Conversation]

    async def run(self) -> int:
        """Run it to its end; return how many cancellations it left pending on its task."""
        task = asyncio.current_task()
        assert task is not None
        await self.exchange.run()
        return task.cancelling()


@contextlib.asynccontextmanager
async def exchange(script: Any, children: ScriptedChildren | None = None) -> AsyncIterator[Running]:
    reached: list[Conversation] = []

    async def noted(conversation: Conversation) -> None:
        reached.append(conversation)
        await script(conversation)

    pool, connections, client, stats = Pool(max_queue=1), Upstream(), Client(), RequestStats()
    context = ProxyContext(pool, children or ScriptedChildren(), connections, SOON, Failures())
    request = ChatRequest(
        "the-id", CHAT.path, HeaderMap([]), parse_chat_body(chat(stream=True)), asyncio.get_running_loop().time()
    )
    response = Response(client.send, client, request.request_id, CHAT, lambda: False)
    async with upstream(noted) as url:
        pool.put(backend(url))
        yield Running(Exchange(context, request, response, stats), client, pool, stats, reached)
        await connections.close()
    assert pool.leases_held == 0


async def test_the_first_cause_counts_and_no_other_cuts_the_clean_up_short() -> None:
    children = SlowChildren()
    async with exchange(unfinished, children) as running:
        task = asyncio.create_task(running.run())
        await eventually(lambda: len(running.client.messages) == 2)
        running.client.leave()
        await eventually(lambda: children.cancelled)
        running.exchange.interrupt(Cause.SHUTDOWN)
        for _ in range(5):
            await asyncio.sleep(0)
        assert running.pool.leases_held == 1, "the lease ended before the page was free"
        children.freed.set()
        assert await task == 0
        assert children.confirmed == ["the-id"]
        assert (running.stats.outcome, running.stats.code) == (Outcome.CLIENT_LEFT, "client_left")


async def test_a_request_that_ends_late_leaves_the_next_one_its_watch_of_the_client() -> None:
    """The error is sent before the page is free: a client may send its next request on the connection meanwhile."""
    children, left = SlowChildren(), list[str]()
    async with exchange(unfinished, children) as running:
        task = asyncio.create_task(running.run())
        await eventually(lambda: len(running.client.messages) == 2)
        running.exchange.interrupt(Cause.SILENT)
        await eventually(lambda: children.cancelled)
        running.client.call_when_lost(lambda: left.append("the next request's client"))
        children.freed.set()
        await task
        running.client.leave()
        assert left == ["the next request's client"]


@pytest.mark.parametrize("message", [1, 2])
async def test_a_stream_that_is_interrupted_has_one_end(message: int) -> None:
    async with exchange(unfinished) as running:
        running.client.on_message = lambda count: running.exchange.interrupt(Cause.SILENT) if count == message else None
        assert await running.run() == 0
        assert running.client.ends == 1
        assert code_of(running.client.messages[-1]["body"]) is ErrorCode.STREAM_IDLE_TIMEOUT
        assert (running.stats.outcome, running.stats.code) == (Outcome.FAILED, "stream_idle_timeout")


async def test_an_answer_that_is_complete_when_it_is_interrupted_is_an_answer() -> None:
    async with exchange(finished) as running:
        running.client.on_message = lambda _: (
            running.exchange.interrupt(Cause.SHUTDOWN) if running.client.ends else None
        )
        assert await running.run() == 0
        assert running.client.ends == 1
        assert (running.stats.outcome, running.stats.code) == (Outcome.ANSWERED, None)


@pytest.mark.parametrize("ended_by", [Cause.SHUTDOWN, Cause.SILENT, Cause.CLIENT_LEFT, "the child", "the client"])
async def test_an_answer_whose_last_event_was_sent_is_an_answer_whatever_comes_after(ended_by: str) -> None:
    async def complete(conversation: Conversation) -> None:
        await conversation.begin_stream()
        await conversation.chunk(EVENT + DONE)
        if ended_by == "the child":
            await eventually(lambda: len(running.client.messages) == 2)
            conversation.writer.transport.abort()
        await conversation.until_closed()

    children = ScriptedChildren()
    async with exchange(complete, children) as running:
        task = asyncio.create_task(running.run())
        await eventually(lambda: len(running.client.messages) == 2)
        if ended_by == "the client":
            running.client.leave()
        elif isinstance(ended_by, Cause):
            running.exchange.interrupt(ended_by)
        assert await task == 0
        assert b"".join(message.get("body", b"") for message in running.client.messages) == EVENT + DONE
        assert running.client.ends == 1
        assert (running.stats.outcome, running.stats.code) == (Outcome.ANSWERED, None)
        if ended_by is not Cause.SHUTDOWN:
            assert children.cancelled == ["the-id"], "the page may still be at work"


async def test_a_last_event_that_the_client_does_not_read_is_no_answer() -> None:
    async def complete(conversation: Conversation) -> None:
        await conversation.begin_stream()
        await conversation.chunk(EVENT + DONE)
        await conversation.until_closed()

    async with exchange(complete) as running:
        task = asyncio.create_task(running.run())
        await eventually(lambda: len(running.client.messages) == 2)
        running.client.stalled = True
        running.client.leave()
        assert await task == 0
        assert (running.stats.outcome, running.stats.code) == (Outcome.CLIENT_LEFT, "client_stalled")


async def test_a_last_event_that_was_sent_to_nobody_is_no_answer() -> None:
    """The connection may be lost just when the child's last event has come, before it is passed on."""
    async with exchange(finished) as running:
        running.client.on_message = lambda count: running.client.leave() if count == 1 else None
        assert await running.run() == 0
        assert (running.stats.outcome, running.stats.code) == (Outcome.CLIENT_LEFT, "client_left")
        assert running.stats.submitted


@pytest.mark.parametrize("cause", [Cause.SHUTDOWN, Cause.CLIENT_LEFT])
async def test_no_child_is_asked_for_what_is_interrupted_before(cause: Cause) -> None:
    async with exchange(finished) as running:
        running.exchange.interrupt(cause)
        if cause is Cause.SHUTDOWN:
            with pytest.raises(ApiError) as refused:
                await running.run()
            assert refused.value.code is ErrorCode.DRAINING
        else:
            assert await running.run() == 0
            assert running.stats.outcome is Outcome.CLIENT_LEFT
        assert not running.reached
        assert not running.client.messages


@pytest.mark.parametrize("interrupted", [False, True])
async def test_a_cancellation_by_somebody_else_goes_on(*, interrupted: bool) -> None:
    async with exchange(unfinished) as running:
        task = asyncio.create_task(running.run())
        await eventually(lambda: len(running.client.messages) == 2)
        if interrupted:
            running.exchange.interrupt(Cause.CLIENT_LEFT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_client_that_leaves_while_another_child_is_looked_for_is_let_go() -> None:
    class Leaving(ScriptedChildren):
        async def may_retry(self, backend: Backend, request_id: str) -> bool:
            running.client.leave()
            await eventually(lambda: running.exchange._interruption.cause)
            return True

    async def breaks(conversation: Conversation) -> None:
        conversation.writer.transport.abort()

    async with exchange(breaks, Leaving()) as running:
        running.pool.put(backend(running.pool.get("a").url, "b"))  # type: ignore[union-attr]
        assert await running.run() == 0
        assert len(running.reached) == 1
        assert (running.stats.outcome, running.stats.retries) == (Outcome.CLIENT_LEFT, 1)
        assert running.client.messages == []


async def test_a_request_leaves_no_cycle_for_the_garbage_collector() -> None:
    """Cycles cost a fifth of the CPU of a request, and keep its body until the next collection."""
    async with exchange(finished) as running:
        await running.run()
        left = weakref.ref(running.exchange)
        gc.disable()
        try:
            del running.exchange
            await eventually(lambda: left() is None)
        finally:
            gc.enable()

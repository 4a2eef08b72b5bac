"""One chat request from its lease to the last byte of its answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

import aiohttp
import structlog

from coordinator.errors import NoBackend, QueueFull
from coordinator.proxy.interrupt import Cause, Interruptible, StallWatch
from coordinator.proxy.response import Reply
from coordinator.proxy.upstream import Broken, Upstream, request_headers, response_headers
from coordinator.proxy.wire import SHOULD_NOT_RETRY, error_code, failed, unavailable

if TYPE_CHECKING:
    from starlette.types import Receive

    from coordinator.proxy.admission import ChatBody
    from coordinator.proxy.pool import Backend, Lease, Pool
    from coordinator.proxy.wire import Headers

log = structlog.get_logger(__name__)

_DONE: Final = b"data: [DONE]"
_ANOTHER_MAY_DO: Final = frozenset({429, 502, 503, 504})


class Children(Protocol):
    """What the proxy asks of supervision."""

    async def cancel(self, backend: Backend, request_id: str) -> bool:
        """Stop a request; when this returns, its lease may end."""

    def was_submitted(self, backend: Backend, request_id: str) -> bool | None:
        """Whether the prompt may have reached the page; None if that cannot be told."""

    async def may_retry(self, backend: Backend, request_id: str) -> bool:
        """Whether a request whose connection broke without a head may go to another child."""


@dataclass(frozen=True)
class Limits:
    """How long a request may take, in seconds, by what it waits for.

    A child says every `keep_alive_s` that it waits for its first token. It applies the same limits, and
    its message is the better one, so that ours are longer by `margin_s`.
    """

    queue_s: float = 60.0
    first_token_s: float = 120.0
    idle_s: float = 60.0
    keep_alive_s: float = 10.0
    margin_s: float = 5.0

    @property
    def head_s(self) -> float:
        """From sending a streamed request to the head of its answer."""
        return self.first_token_s + self.margin_s

    @property
    def silence_s(self) -> float:
        """Within an answer, between two chunks from the child."""
        return max(self.idle_s, self.keep_alive_s) + self.margin_s


class Outcome(StrEnum):
    """How a request ended, as the metrics count it."""

    ANSWERED = "answered"
    REFUSED = "refused"  # nothing is broken: the request, the limits here, or those of the site
    FAILED = "failed"
    CLIENT_LEFT = "client_left"


@dataclass
class Account:
    """What is counted of one request."""

    outcome: Outcome = Outcome.FAILED
    code: str | None = None
    waited_s: float | None = None  # for a lease; None for who was refused before
    first_token_s: float | None = None
    chunks: int = 0
    retries: int = 0


@dataclass(frozen=True)
class Question:
    """A request that has passed the edge."""

    request_id: str
    headers: Headers
    body: ChatBody
    began: float  # loop time


@dataclass(frozen=True)
class Means:
    """What every exchange works with."""

    pool: Pool
    children: Children
    upstream: Upstream
    limits: Limits


class Exchange:
    """Forwards one request and its answer; ends it when the client leaves, stalls, or time is up."""

    def __init__(self, means: Means, question: Question, receive: Receive, reply: Reply, account: Account) -> None:
        self.account = account
        self._means = means
        self._question = question
        self._receive = receive
        self._reply = reply
        self._region = Interruptible()
        self._stall = StallWatch(self._region, lambda: reply.blocked, client_s=means.limits.idle_s)

    async def run(self) -> None:
        """Answer the request, one way or another. Raises Refusal if nothing was sent to the client yet."""
        watcher = asyncio.create_task(self._watch(), name="disconnect-watcher")
        try:
            await self._until_answered()
        finally:
            watcher.cancel()

    def shut_down(self) -> None:
        """End the request with an error, because the coordinator ends."""
        self._region.interrupt(Cause.SHUTDOWN)

    async def _watch(self) -> None:
        # uvicorn's send() returns silently after a disconnect, so that only this notices.
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._region.interrupt(Cause.CLIENT_LEFT)

    # Leases

    async def _until_answered(self) -> None:
        now = asyncio.get_running_loop().time
        give_up_at = now() + self._means.limits.queue_s
        tried: frozenset[str] = frozenset()
        while (lease := await self._lease(tried, max(0.0, give_up_at - now()))) is not None:
            tried |= {lease.backend.name}
            with lease:
                if await self._attempt(lease.backend, tried):
                    return
            self.account.retries += 1

    async def _lease(self, tried: frozenset[str], timeout_s: float) -> Lease | None:
        """A lease; None if the client has left. Raises Refusal."""
        lease = None
        if self._region.cause is None:
            with self._region:
                lease = await self._acquire(tried, timeout_s)
        if self._region.cause is Cause.SHUTDOWN:
            raise unavailable("draining", "The server is shutting down; try again elsewhere.", retry_after_s=5)
        if lease is None:
            self.account.outcome = Outcome.CLIENT_LEFT
        return lease

    async def _acquire(self, tried: frozenset[str], timeout_s: float) -> Lease:
        model, now = self._question.body.model, asyncio.get_running_loop().time
        began = now()
        try:
            return await self._means.pool.acquire(model, exclude=tried, timeout_s=timeout_s)
        except QueueFull as error:
            raise unavailable("queue_full", str(error), retry_after_s=error.retry_after_s, status=429) from None
        except NoBackend as error:
            code = "queue_timeout" if error.reason == "timeout" else error.reason
            raise unavailable(code, str(error), retry_after_s=error.retry_after_s) from None
        finally:
            self.account.waited_s = (self.account.waited_s or 0.0) + now() - began

    async def _attempt(self, backend: Backend, tried: frozenset[str]) -> bool:
        """Try one child; False if the prompt was certainly not submitted and another may take it."""
        finished = None
        try:
            with self._region:
                finished = await self._forward(backend, tried)
        except Broken as broken:
            return await self._after_break(backend, broken)
        finally:
            self._stall.stop()
        if finished is None:
            await self._after_interrupt(backend)
        return finished is not False

    # Forwarding

    async def _forward(self, backend: Backend, tried: frozenset[str]) -> bool:
        question = self._question
        if question.body.stream:
            self._stall.expect(self._means.limits.head_s, Cause.NO_HEAD)
        headers = request_headers(question.headers, backend, question.request_id)
        response = await self._means.upstream.post(backend, headers, question.body.raw)
        try:
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                await self._relay_stream(response)
                return True
            return await self._relay_whole(response, backend, tried)
        except (aiohttp.ClientError, OSError):
            raise Broken(answered=True) from None
        finally:
            response.close()  # does nothing to a connection that is fit for the next request

    async def _relay_stream(self, response: aiohttp.ClientResponse) -> None:
        self._stall.expect(self._means.limits.silence_s, Cause.SILENT)
        await self._reply.begin_stream(response.status, self._headers(response))
        read, pass_on, stall = response.content.readany, self._reply.pass_on, self._stall
        now, account = asyncio.get_running_loop().time, self.account
        last = events = b""
        while chunk := await read():
            stall.moved_at = now()
            events = await pass_on(chunk)
            account.chunks += 1
            if account.first_token_s is None and b"data:" in events:
                account.first_token_s = stall.moved_at - self._question.began
            last = events or last
        await self._reply.end_stream()
        answered = last.rstrip().endswith(_DONE) and response.status == 200
        self._count(Outcome.ANSWERED if answered else Outcome.FAILED, last)

    async def _relay_whole(self, response: aiohttp.ClientResponse, backend: Backend, tried: frozenset[str]) -> bool:
        # Held until it is complete: a child that dies in the middle still becomes a proper error.
        body = await response.read()
        status = response.status
        if status in _ANOTHER_MAY_DO and self._another_may(response, backend, tried):
            return False
        headers = self._headers(response)
        if status >= 400 and self._may_be_submitted(response, backend):
            headers.append(SHOULD_NOT_RETRY)
        self._stall.expect(self._means.limits.idle_s, Cause.CLIENT_STALLED)
        await self._reply.whole(status, headers, body)
        self._count(Outcome.ANSWERED if status < 400 else Outcome.REFUSED if status < 500 else Outcome.FAILED, body)
        return True

    def _count(self, outcome: Outcome, said: bytes) -> None:
        """What became of the request; `said` is the child's error where it is not an answer."""
        self.account.outcome = outcome
        if outcome is not Outcome.ANSWERED:
            self.account.code = error_code(said)
            log.info("not_answered", request=self._question.request_id, outcome=outcome, code=self.account.code)

    def _may_be_submitted(self, response: aiohttp.ClientResponse, backend: Backend) -> bool:
        """Whether an error comes from where the prompt may have been sent, and does not say so itself."""
        told = "x-should-retry" in response.headers
        return not told and self._means.children.was_submitted(backend, self._question.request_id) is not False

    def _another_may(self, response: aiohttp.ClientResponse, backend: Backend, tried: frozenset[str]) -> bool:
        """Whether the child failed before it submitted anything, and a free child can take the request."""
        if response.headers.get("x-should-retry") == "false":
            return False
        other = self._means.pool.try_acquire(self._question.body.model, exclude=tried)
        if other is None:
            return False
        other.release()
        return self._means.children.was_submitted(backend, self._question.request_id) is False

    def _headers(self, response: aiohttp.ClientResponse) -> Headers:
        return response_headers(response, self._question.request_id.encode())

    # Ends that are not the answer's own

    async def _after_break(self, backend: Backend, broken: Broken) -> bool:
        request_id, children = self._question.request_id, self._means.children
        if self._region.cause is not None:
            await self._after_interrupt(backend)
            return True
        if not broken.delivered or (not broken.answered and await children.may_retry(backend, request_id)):
            return False
        log.warning("answer_broken", request=request_id, child=backend.name, sent=self._reply.sent.value)
        await self._fail(502, "child_lost", "The browser at work on this answer was lost.")
        await children.cancel(backend, request_id)
        return True

    async def _after_interrupt(self, backend: Backend) -> None:
        """Tell the client, if it is there, then wait until the page is free again."""
        cause = self._region.cause
        log.info("answer_interrupted", request=self._question.request_id, child=backend.name, cause=cause)
        match cause:
            case Cause.SHUTDOWN:  # the child is told to end itself
                await self._fail(503, cause, "The server is shutting down; this answer is not complete.")
                return
            case Cause.NO_HEAD:
                await self._fail(504, cause, "The answer did not begin in time (FIRST_TOKEN_TIMEOUT_S).")
            case Cause.SILENT:
                await self._fail(504, cause, "The answer fell silent (STREAM_IDLE_TIMEOUT_S).")
            case _:
                await self._reply.cut()
                self.account.outcome, self.account.code = Outcome.CLIENT_LEFT, cause
        await self._means.children.cancel(backend, self._question.request_id)

    async def _fail(self, status: int, code: str, message: str) -> None:
        self.account.outcome, self.account.code = Outcome.FAILED, code
        await self._reply.fail(failed(status, code, message))

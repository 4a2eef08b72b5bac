"""One chat request from its lease to the last byte of its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

import aiohttp
import structlog
from anyio import CancelScope
from anyio.lowlevel import checkpoint_if_cancelled

from contract.api_error import (
    DO_NOT_RETRY,
    NOTHING_SUBMITTED,
    SHOULD_RETRY_HEADER,
    ApiError,
    ErrorCode,
    code_of,
    is_error_event,
    not_to_be_retried,
    unavailable,
)
from contract.child_environment import KEEP_ALIVE_S
from contract.dialects.dialect import COMPLETE
from coordinator.errors import NoBackend, NotQueued, QueueFull, UpstreamBroken
from coordinator.proxy.admission import ChatBody
from coordinator.proxy.headers import BUSY, HeaderMap, child_headers, encode, response_headers
from coordinator.proxy.interrupt import Cause, Interruption, StallWatch
from coordinator.proxy.pool import Backend, Lease, Pool
from coordinator.proxy.repeats import Failures
from coordinator.proxy.response import Response
from coordinator.proxy.upstream import Upstream

log = structlog.get_logger(__name__)

_ANOTHER_MAY_DO: Final = frozenset({429, 502, 503, 504})
_DRAIN_RETRY_S: Final = 5.0
_EVENT: Final = (b"data:", b"event:")
_LARGEST_WHOLE_BYTES: Final = 64 * 1024 * 1024  # held at once; no page writes as much
_MESSAGES: Final[Mapping[Cause, str]] = {
    Cause.NO_HEAD: "The answer did not begin in time (FIRST_TOKEN_TIMEOUT_S).",
    Cause.SILENT: "The answer fell silent (STREAM_IDLE_TIMEOUT_S).",
    Cause.SHUTDOWN: "The server is shutting down; this answer is not complete.",
}
"""What a client is told of an interruption; of the other causes it is the cause itself."""


def server_draining() -> ApiError:
    """Return the error for a request that comes, or still waits for a child, while the coordinator ends."""
    message = "The server is shutting down; try again elsewhere."
    return unavailable(ErrorCode.DRAINING, message, retry_after_s=_DRAIN_RETRY_S)


class Children(Protocol):
    """What the proxy asks of supervision."""

    async def cancel(self, backend: Backend, request_id: str) -> bool:
        """Stop a request; when this returns, its lease may end."""

    def was_submitted(self, backend: Backend, request_id: str) -> bool | None:
        """Return whether the prompt may have reached the page; None if that cannot be told."""

    async def may_retry(self, backend: Backend, request_id: str) -> bool:
        """Return whether a request whose connection broke without a head may go to another child."""


@dataclass(frozen=True)
class Limits:
    """How long a request may take, in seconds, by what it waits for.

    A child sends something every `keep_alive_s` while it waits for its first token. It applies the same limits, and
    its message is the better one, so that ours are longer by `margin_s`.
    """

    queue_s: float
    first_token_s: float
    idle_s: float
    keep_alive_s: float = KEEP_ALIVE_S
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


class Repeat(StrEnum):
    """How a request got the answer of an earlier one with the same `Idempotency-Key`."""

    JOINED = "joined"  # while it came
    REPLAYED = "replayed"


@dataclass
class RequestStats:
    """What is counted of one request. Times in seconds.

    `code` is an error's code, `other` for a child's error whose code is none of ours, or the cause of an interruption.
    `queued_s` is the time waited for leases; None for a request that was refused before. `submitted` tells of a failed
    request that its prompt may have reached the page. `repeat` is how an earlier answer was had, by its key.
    """

    outcome: Outcome = Outcome.FAILED
    code: str | None = None
    queued_s: float | None = None
    first_token_s: float | None = None
    chunks: int = 0
    retries: int = 0
    submitted: bool = False
    repeat: Repeat | None = None


class ChatRequest(NamedTuple):
    """A request for a page that has been admitted. `path` is its dialect's; `began` is in the loop's time.

    `may_wait` says whether it is queued where all pages are busy.
    """

    request_id: str
    path: str
    headers: HeaderMap
    body: ChatBody
    began: float
    may_wait: bool = True


@dataclass(frozen=True)
class ProxyContext:
    """What every exchange works with."""

    pool: Pool
    children: Children
    upstream: Upstream
    limits: Limits
    failures: Failures


class Exchange:
    """Forwards one request and its answer; ends it when the client leaves, stalls, or time is up."""

    def __init__(self, context: ProxyContext, request: ChatRequest, response: Response, stats: RequestStats) -> None:
        self._context = context
        self._request = request
        self._response = response
        self._stats = stats
        self._model = request.body.model
        """The one that is asked: of those that an alias stands for, or the one that the body names."""
        self._cost_a_child = False
        self._last_line = b""  # of what was passed on of a stream
        self._interruption = Interruption()
        self._stall = StallWatch(self._interruption.interrupt, lambda: response.blocked)

    async def run(self) -> None:
        """Answer the request, one way or another. Raises ApiError if nothing was sent to the client yet."""
        give_up_at = asyncio.get_running_loop().time() + self._context.limits.queue_s
        tried: frozenset[str] = frozenset()
        lease: Lease | None = None
        # uvicorn's send() returns silently after a disconnect, so that only this notices.
        self._response.connection.call_when_lost(self._client_left)
        try:
            with self._interruption.scope:
                while True:
                    if self._interruption.cause is not None:
                        await checkpoint_if_cancelled()  # a free child is leased without an await that notices
                    lease = await self._acquire(tried, give_up_at)
                    tried |= {lease.backend.name}
                    with lease:
                        if await self._attempt(lease.backend, tried):
                            return
                    lease = None
                    self._stats.retries += 1
        finally:
            # By then the client may have sent its next request on this connection.
            self._response.connection.forget_when_lost(self._client_left)
        if lease is None:  # interrupted before any child had the request
            if self._interruption.cause is Cause.SHUTDOWN:
                raise server_draining()
            self._stats.outcome = Outcome.CLIENT_LEFT

    def interrupt(self, cause: Cause) -> None:
        """End the request for this cause; later calls do nothing."""
        self._interruption.interrupt(cause)

    def _client_left(self) -> None:
        self.interrupt(Cause.CLIENT_STALLED if self._response.connection.stalled else Cause.CLIENT_LEFT)

    async def _stop_if_disconnected(self) -> None:
        """Be cancelled now if the client left before all was sent: what is sent to nobody waits for nothing."""
        if self._response.connection.lost:
            await checkpoint_if_cancelled()

    async def _acquire(self, tried: frozenset[str], give_up_at: float) -> Lease:
        """Wait for a child that was not tried, of the model that its name means now. Raises ApiError."""
        now = asyncio.get_running_loop().time
        began = now()
        try:
            pool, name = self._context.pool, self._request.body.model
            self._model = pool.choose(name, exclude=tried)
            timeout_s, may_wait = max(0.0, give_up_at - began), self._request.may_wait
            return await pool.acquire(self._model, exclude=tried, timeout_s=timeout_s, may_wait=may_wait)
        except QueueFull as error:
            raise unavailable(ErrorCode.QUEUE_FULL, str(error), retry_after_s=error.retry_after_s) from None
        except NotQueued as error:
            refusal = unavailable(ErrorCode.NOT_QUEUED, str(error), retry_after_s=error.retry_after_s)
            raise replace(refusal, headers={**refusal.headers, **BUSY}) from None
        except NoBackend as error:
            code = ErrorCode.QUEUE_TIMEOUT if error.reason == "timeout" else ErrorCode(error.reason)
            raise unavailable(code, str(error), retry_after_s=error.retry_after_s) from None
        finally:
            self._stats.queued_s = (self._stats.queued_s or 0.0) + now() - began

    async def _attempt(self, backend: Backend, tried: frozenset[str]) -> bool:
        """Try one child; return False if the prompt was certainly not submitted and another may take it."""
        request, context = self._request, self._context
        try:
            with self._stall:
                if request.body.stream:
                    self._stall.expect(context.limits.head_s, Cause.NO_HEAD)
                model = backend.model_of(self._model)
                meant = None if model == request.body.model else model
                headers = child_headers(request.request_id, backend.token, meant)
                async with context.upstream.post(backend, request.path, headers, request.body.raw) as answer:
                    events = answer.headers.get("content-type", "").startswith("text/event-stream")
                    if events and answer.status == 200:
                        await self._relay_stream(answer, backend)
                        return True
                    return await self._relay_whole(answer, backend, tried)
        except asyncio.CancelledError:
            if self._interruption.cause is not None:  # else the whole task is cancelled: the server itself ends
                with CancelScope(shield=True):
                    await self._finish_interrupted(backend, self._interruption.cause)
            raise
        except UpstreamBroken as broken:
            # Shielded, as above: the lease ends with this, so that it must not end before the page is free.
            with CancelScope(shield=True):
                if self._interruption.cause is None:
                    return await self._finish_broken(backend, broken)
                await self._finish_interrupted(backend, self._interruption.cause)
            return True

    async def _relay_stream(self, answer: aiohttp.ClientResponse, backend: Backend) -> None:
        """Pass a stream of events on as it comes. Raises UpstreamBroken for one that ends in the midst of an answer."""
        self._stall.expect(self._context.limits.silence_s, Cause.SILENT)
        await self._response.begin_stream(answer.status, response_headers(answer.raw_headers, self._request.request_id))
        # Bound once: this loop is most of what the coordinator does.
        read, send_chunk, stall = answer.content.readany, self._response.send_chunk, self._stall
        now, stats = asyncio.get_running_loop().time, self._stats
        last = events = b""
        try:
            while chunk := await read():
                events = await send_chunk(chunk)
                stall.moved_at = now()  # only now is the child waited for again
                stats.chunks += 1
                if stats.first_token_s is None and b"data:" in events:
                    stats.first_token_s = stall.moved_at - self._request.began
                last = events or last
        finally:
            self._last_line = last.rstrip().rpartition(b"\n")[2]
        complete = self._last_line in COMPLETE
        # HTTP may end in good order where the answer does not. To a client that counts as the whole answer.
        if not complete and not is_error_event(self._last_line):
            raise UpstreamBroken(answered=True)
        if not complete and self._context.children.was_submitted(backend, self._request.request_id) is not False:
            self._note_failure(code_of(last) or "other")
        await self._response.end_stream()
        await self._stop_if_disconnected()
        self._count(Outcome.ANSWERED if complete else Outcome.FAILED, last)

    async def _relay_whole(self, answer: aiohttp.ClientResponse, backend: Backend, tried: frozenset[str]) -> bool:
        """Pass a whole response on; return False, and send nothing, where another child may take the request."""
        request_id, children, status = self._request.request_id, self._context.children, answer.status
        body = await self._read_whole(answer)
        says_retry = answer.headers.get(SHOULD_RETRY_HEADER)
        if (
            status in _ANOTHER_MAY_DO
            and says_retry != "false"
            and self._context.pool.may_go_on(self._request.body.model, self._model, exclude=tried)
            and children.was_submitted(backend, request_id) is False
        ):
            return False
        headers = response_headers(answer.raw_headers, request_id)
        # The mark decides where the child forgets to say whether the prompt may have been submitted.
        if status >= 400 and says_retry is None and children.was_submitted(backend, request_id) is not False:
            headers.extend(encode(DO_NOT_RETRY))
            says_retry = "false"
        if says_retry == "false" and status in NOTHING_SUBMITTED:
            status = 502
        failed_late = status < 400 and body.startswith(_EVENT)  # after white space, and so after the submission
        if says_retry == "false" or failed_late:
            self._note_failure(code_of(body) or "other")  # before it is sent: the client may come back at once
        self._stall.stop()  # nothing more is to come from the child
        await self._response.send_whole(status, headers, body)
        await self._stop_if_disconnected()
        # What the child calls it: to the client a refusal may have another status.
        outcome = Outcome.ANSWERED if answer.status < 400 else Outcome.REFUSED
        self._count(Outcome.FAILED if answer.status >= 500 or failed_late else outcome, body)
        return True

    async def _read_whole(self, answer: aiohttp.ClientResponse) -> bytes:
        """Return a whole response's body; the white space that a child at work sends before it is passed on at once.

        The rest is held until it is complete: a child that dies in the middle still becomes a proper error.
        """
        now, body = asyncio.get_running_loop().time, bytearray()
        may_be_blank = answer.status == 200 and answer.content_length is None
        if may_be_blank:
            self._stall.expect(self._context.limits.silence_s, Cause.SILENT)
        while chunk := await answer.content.readany():
            if body or chunk.strip() or not may_be_blank:
                body += chunk
            else:
                headers = response_headers(answer.raw_headers, self._request.request_id)
                await self._response.send_blank(headers, chunk)
            if len(body) > _LARGEST_WHOLE_BYTES:
                raise UpstreamBroken(answered=True)
            self._stall.moved_at = now()
        return bytes(body.lstrip() if may_be_blank else body)

    def _count(self, outcome: Outcome, last: bytes) -> None:
        """Note what became of the request; `last` is the child's error where it is not an answer."""
        self._stats.outcome = outcome
        if outcome is not Outcome.ANSWERED:
            self._stats.code = code_of(last) or "other"
            log.info("not_answered", request=self._request.request_id, outcome=outcome, code=self._stats.code)

    def _note_failure(self, code: str | None) -> None:
        """Remember, for repeats, that this request failed and its prompt may have been submitted."""
        request, self._stats.submitted = self._request, True
        self._context.failures.add(request.headers, request.path, request.body.came, code)

    async def _finish_broken(self, backend: Backend, broken: UpstreamBroken) -> bool:
        """Free the page after a broken connection; return False if another child may take the request."""
        request_id, children = self._request.request_id, self._context.children
        if not broken.delivered:
            return False
        # A request that ends whoever takes it would else end the whole fleet, one child after the other.
        is_first, self._cost_a_child = not self._cost_a_child, True
        if is_first and not broken.answered and await children.may_retry(backend, request_id):
            return False
        log.warning("answer_broken", request=request_id, child=backend.name, sent=self._response.sent.value)
        if self._is_complete:
            await self._end_complete()
            await children.cancel(backend, request_id)
            return True
        what = "The browser at work on this answer was lost" if is_first else "Two browsers were lost at this request"
        await self._fail(ErrorCode.CHILD_LOST, f"{what}.")
        await children.cancel(backend, request_id)
        return True

    async def _finish_interrupted(self, backend: Backend, cause: Cause) -> None:
        """Tell the client, if it is there, then wait until the page is free again."""
        request, children = self._request, self._context.children
        log.info("answer_interrupted", request=request.request_id, child=backend.name, cause=cause)
        # Of a client that did not read, nobody knows how far it came.
        if self._is_complete and cause is not Cause.CLIENT_STALLED:
            await self._end_complete()
        elif cause in _MESSAGES:
            await self._fail(ErrorCode(cause), _MESSAGES[cause])
        else:
            # A client that leaves at an error event, before the stream's end has come from the child, saw a failure.
            if not self._is_complete:
                has_failed = is_error_event(self._last_line)
                self._note_failure((code_of(self._last_line) or "other") if has_failed else None)
            await self._response.abort()
            self._stats.outcome, self._stats.code = Outcome.CLIENT_LEFT, cause
        if cause is not Cause.SHUTDOWN:  # then the child is told to end anyway
            is_free = await children.cancel(backend, request.request_id)
            if is_free and children.was_submitted(backend, request.request_id) is False:
                self._context.failures.discard_left(request.headers, request.path, request.body.came)

    @property
    def _is_complete(self) -> bool:
        """Whether the client was sent a stream's last event: from then on it has its answer, and may act on it."""
        return self._last_line in COMPLETE

    async def _end_complete(self) -> None:
        self._stats.outcome, self._stats.code = Outcome.ANSWERED, None
        await self._response.end_complete()

    async def _fail(self, code: ErrorCode, message: str) -> None:
        self._stats.outcome, self._stats.code = Outcome.FAILED, code
        self._note_failure(code)
        await self._response.fail(not_to_be_retried(code, message))

    async def fail_internally(self) -> None:
        """End the request after a fault of the proxy itself, which leaves open how far it had come."""
        await self._fail(ErrorCode.INTERNAL_ERROR, "The proxy failed; the log says where.")

"""The requests that have one chat page or wait for it: bounded, known by their ids, and each can be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from browser.page.chat_page import ChatPage
from contract.api_error import ErrorCode, not_to_be_retried, unavailable

MAX_WAITING = 100
REMEMBERED_CANCELS = 1000


@dataclass(eq=False)
class QueuedRequest:
    """One request from its arrival until the page is fresh again; `task` is the one that serves it."""

    task: asyncio.Task[object] | None
    done: asyncio.Event = field(default_factory=asyncio.Event)


class RequestQueue:
    """Bounds how many requests wait for the page, and knows which there are; the page itself takes them in turn."""

    def __init__(self, page: ChatPage, *, max_waiting: int = MAX_WAITING) -> None:
        """At most max_waiting requests wait, beside the one that has the page."""
        self.page = page
        self._max_waiting = max_waiting
        self._requests: dict[str, QueuedRequest] = {}
        self._cancelled_early: dict[str, None] = {}  # ids that had not arrived when they were cancelled, oldest first
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        """Whether a request has the page, or waits for it."""
        return bool(self._requests)

    @asynccontextmanager
    async def admit(self, request_id: str) -> AsyncIterator[None]:
        """Count the request as one that has the page, or waits for it: `ChatPage.ask` takes one after the other.

        Raises ApiError: 409 for an id in use, 429 when the queue is full, 503 for an id that was cancelled already.
        """
        if request_id in self._cancelled_early:
            raise unavailable(ErrorCode.CANCELLED, "the request was cancelled before it arrived", retry_after_s=1)
        if request_id in self._requests:
            # Clients send a request again after 409, and the running one may have been submitted.
            what = "a request with this x-request-id is running"
            raise not_to_be_retried(ErrorCode.DUPLICATE_REQUEST_ID, what)
        if len(self._requests) > self._max_waiting:
            raise unavailable(ErrorCode.QUEUE_FULL, "too many requests wait for this page", retry_after_s=5)
        request = self._requests[request_id] = QueuedRequest(asyncio.current_task())
        self._idle.clear()
        try:
            yield
        finally:
            del self._requests[request_id]
            request.done.set()
            if not self._requests:
                self._idle.set()

    async def cancel(self, request_id: str, *, timeout_s: float) -> bool:
        """Cancel a request; return True once its page is fresh again, False after timeout_s seconds."""
        request = self._requests.get(request_id)
        if request is None:
            # It has ended, and its page is fresh: a request leaves the queue no sooner. Or it has not arrived yet:
            # requests overtake each other on different connections. Then it must not start any more, because
            # another child may have it by the time it arrives.
            self._cancelled_early[request_id] = None
            if len(self._cancelled_early) > REMEMBERED_CANCELS:
                del self._cancelled_early[next(iter(self._cancelled_early))]
            return True
        if request.task is not None:
            request.task.cancel()
        try:
            await asyncio.wait_for(request.done.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def wait_idle(self) -> None:
        """Return when no request has the page or waits for it."""
        await self._idle.wait()

    def cancel_all(self) -> None:
        """Cancel every request; each ends by itself, with an error to its caller."""
        for request in list(self._requests.values()):
            if request.task is not None:
                request.task.cancel()

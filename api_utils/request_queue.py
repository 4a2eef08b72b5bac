"""The desk before one chat page: one prompt at a time, first come, first served; each can be called off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from browser.page.chat_page import ChatPage
from contract.api_error import ApiError, ErrorCode, unavailable

MAX_WAITING = 100
REMEMBERED_CANCELS = 1000


@dataclass(eq=False)
class Visit:
    """One request from its arrival until the page is fresh again."""

    request_id: str
    task: asyncio.Task[object] | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Desk:
    """Hands the page to one request after the other and knows which one has it."""

    def __init__(self, page: ChatPage, *, max_waiting: int = MAX_WAITING) -> None:
        self.page = page
        self._max_waiting = max_waiting
        self._turn = asyncio.Lock()  # asyncio's lock wakes its waiters in the order they came
        self._visits: dict[str, Visit] = {}
        self._called_off: dict[str, None] = {}  # ids that were not here when they were, in that order
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def busy(self) -> bool:
        """Whether a request has the page, or waits for it."""
        return bool(self._visits)

    @asynccontextmanager
    async def visit(self, request_id: str) -> AsyncIterator[Visit]:
        """Wait for the page and hold it.

        Raises ApiError: 409 for an id in use, 429 when the desk is full, 503 for an id that was called off.
        """
        if request_id in self._called_off:
            raise unavailable(ErrorCode.CANCELLED, "the request was called off before it came", retry_after_s=1)
        if request_id in self._visits:
            raise ApiError(ErrorCode.DUPLICATE_REQUEST_ID, "a request with this x-request-id is running")
        if len(self._visits) > self._max_waiting:
            raise unavailable(ErrorCode.QUEUE_FULL, "too many requests wait for this page", retry_after_s=5)
        visit = self._visits[request_id] = Visit(request_id, asyncio.current_task())
        self._idle.clear()
        try:
            async with self._turn:
                yield visit
        finally:
            del self._visits[request_id]
            visit.over.set()
            if not self._visits:
                self._idle.set()

    async def cancel(self, request_id: str, *, timeout_s: float) -> bool:
        """Call a request off and wait until its page is fresh again; True when it is.

        An id that is not here has ended: its page is fresh, because a visit ends no sooner. Or it has not come yet:
        requests overtake each other on different connections. It must not come any more, for another child may
        have it by then.
        """
        visit = self._visits.get(request_id)
        if visit is None:
            self._refuse_from_now_on(request_id)
            return True
        if visit.task is not None:
            visit.task.cancel()
        try:
            await asyncio.wait_for(visit.over.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def _refuse_from_now_on(self, request_id: str) -> None:
        self._called_off[request_id] = None
        if len(self._called_off) > REMEMBERED_CANCELS:
            del self._called_off[next(iter(self._called_off))]

    async def idle(self) -> None:
        """Return when no request has the page or waits for it."""
        await self._idle.wait()

    def cancel_all(self) -> None:
        """Call every request off; they end by themselves."""
        for visit in list(self._visits.values()):
            if visit.task is not None:
                visit.task.cancel()

"""The client's side of a request: the head, the chunks, and an end that is never silent."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Final

from coordinator.proxy.framing import EventFraming
from coordinator.proxy.wire import CLOSE, send_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Send

    from coordinator.proxy.wire import Headers, Refusal

_LAST_WORDS_S: Final = 1.0
_SLICE_BYTES: Final = 1 << 18  # written in one go; more waits for a client that reads slowly


class Sent(Enum):
    """What of the response is on its way."""

    NOTHING = "nothing"
    STREAM = "stream"
    WHOLE = "whole"


class Reply:
    """Sends one response. Whoever sends may be cancelled in any `await`, and `fail` afterwards."""

    def __init__(self, send: Send, abort: Callable[[], None], request_id: str, draining: Callable[[], bool]) -> None:
        self.sent = Sent.NOTHING
        self.blocked = False
        self._send = send
        self._abort = abort
        self._request_id = request_id
        self._draining = draining
        self._framing = EventFraming()

    async def begin_stream(self, status: int, headers: Headers) -> None:
        """Send the head of a stream of server-sent events."""
        await self._head(status, headers)
        self.sent = Sent.STREAM

    async def pass_on(self, chunk: bytes) -> bytes:
        """Send what of the stream makes up whole events by now; returns it."""
        events = self._framing.feed(chunk)
        if events:
            self.blocked = True
            await self._send({"type": "http.response.body", "body": events, "more_body": True})
            self.blocked = False
        return events

    async def end_stream(self) -> None:
        """Send what is left, and the end."""
        await self._send({"type": "http.response.body", "body": self._framing.rest()})

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a response in one piece."""
        self.blocked = True
        headers.append((b"content-length", b"%d" % len(body)))
        await self._head(status, headers)
        self.sent = Sent.WHOLE
        for at in range(0, len(body) - _SLICE_BYTES, _SLICE_BYTES):
            await self._send({"type": "http.response.body", "body": body[at : at + _SLICE_BYTES], "more_body": True})
        last = body[(len(body) - 1) // _SLICE_BYTES * _SLICE_BYTES :] if body else body
        await self._send({"type": "http.response.body", "body": last})
        self.blocked = False

    async def fail(self, refusal: Refusal) -> None:
        """An error as the end of a stream that has begun, else as the response it still can be."""
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._fail(refusal)
        except TimeoutError:
            await self.cut()

    async def _fail(self, refusal: Refusal) -> None:
        if self.sent is Sent.NOTHING:
            self.sent = Sent.WHOLE
            await send_refusal(self._send, refusal, self._request_id, closing=self._draining())
        elif self.sent is Sent.STREAM:
            self.sent = Sent.WHOLE
            await self._send({"type": "http.response.body", "body": self._framing.before_event() + refusal.event()})
        else:
            await self.cut()

    async def cut(self) -> None:
        """Close the connection at once, whatever is still to be sent on it."""
        self._abort()
        # The server learns of it in the loop's next turn; before that it takes the half answer for a mistake of ours.
        await asyncio.sleep(0)

    async def _head(self, status: int, headers: Headers) -> None:
        if self._draining():
            headers.append(CLOSE)
        # A cancellation here comes before the head is written, never after: `sent` is set by the caller.
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

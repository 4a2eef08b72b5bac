"""The response to a client: the head, the chunks, and an end that is never silent.

A stream of server-sent events is only ever cut between two of them
(https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream).

A whole answer that takes long begins with white space. What fails after that ends in an error event, as a stream does:
an error in JSON would be an answer without choices to the OpenAI client, and a cut connection a reason to send the
request again, whatever a header says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from enum import Enum
from typing import Final, Protocol

from starlette.types import Send

from contract.api_error import ApiError
from contract.child_api import REQUEST_ID_HEADER
from contract.dialects.chat import CHAT
from contract.dialects.dialect import Dialect
from coordinator.proxy.headers import CLOSE, Headers, encode

_ENDS: Final = (b"\n\n", b"\r\n\r\n")
_LARGEST_HELD_BYTES: Final = 1024 * 1024
_LAST_WORDS_S: Final = 1.0
_SLICE_BYTES: Final = 1 << 18  # written in one go; more waits for a client that reads slowly


class EventFraming:
    """Passes whole events on and holds back the beginning of one until its end has come.

    What has been passed on can always be followed by another event. The bytes and their order are
    unchanged. An event above 1 MiB is passed on in parts.
    """

    def __init__(self) -> None:
        self._held = b""
        self._inside = False

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes in; return those that may be sent now."""
        # Nearly every chunk of a child ends with an event: it passes without a copy.
        if not self._held and chunk.endswith(_ENDS):
            self._inside = False
            return chunk
        data = self._held + chunk
        cut = max(data.rfind(end) + len(end) if end in data else 0 for end in _ENDS)
        if cut:
            self._inside = False
        elif len(data) > _LARGEST_HELD_BYTES:
            cut, self._inside = len(data), True
        self._held = data[cut:]
        return data[:cut]

    def rest(self) -> bytes:
        """Return what is held back, at the orderly end of the stream."""
        held, self._held = self._held, b""
        return held

    def before_event(self) -> bytes:
        """Return what must be sent before an event of our own, in place of what is held back."""
        return b"\n\n" if self._inside else b""


async def send_json(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send a JSON response in one piece; `headers` are those beside content type and length."""
    own = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_error(
    send: Send, error: ApiError, request_id: str, dialect: Dialect = CHAT, *, closing: bool = False
) -> None:
    """Send the error as a whole response; `closing` asks the client to come with a new connection."""
    headers = {REQUEST_ID_HEADER: request_id, **error.headers, **(CLOSE if closing else {})}
    await send_json(send, error.status, dialect.error_body(error), encode(headers))


class Sent(Enum):
    """What of the response is on its way."""

    NOTHING = "nothing"
    STREAM = "stream"
    BLANK = "blank"  # the head of a whole answer, and white space
    WHOLE = "whole"


class Connection(Protocol):
    """What carries a response. `lost` means that it has ended, `stalled` that the client did not read."""

    lost: bool
    stalled: bool

    def abort(self) -> None:
        """Reset the connection at once, whatever is still to be sent on it."""

    def call_when_lost(self, callback: Callable[[], None]) -> None:
        """Have this called once the connection is lost, at once if it is so now, until it is forgotten."""

    def forget_when_lost(self, callback: Callable[[], None]) -> None:
        """Do not call this any more; another one, of the next request, stays."""


class Response:
    """One response. Whoever sends may be cancelled in any `await`, and call `fail` afterwards.

    `blocked` is True while the client holds up what is sent. `draining` tells whether the client is to come with a
    new connection next time.
    """

    def __init__(
        self,
        send: Send,
        connection: Connection,
        request_id: str,
        dialect: Dialect,
        draining: Callable[[], bool],
    ) -> None:
        self.sent = Sent.NOTHING
        self.blocked = False
        self._send = send
        self.connection = connection
        self._request_id = request_id
        self._dialect = dialect
        self._draining = draining
        self._framing = EventFraming()

    async def begin_stream(self, status: int, headers: Headers) -> None:
        """Send the head of a stream of server-sent events."""
        await self._send_head(status, headers)
        self.sent = Sent.STREAM

    async def send_chunk(self, chunk: bytes) -> bytes:
        """Send what of the stream makes up whole events by now, and return it; nothing once the connection is lost."""
        events = self._framing.feed(chunk)
        if events:
            self.blocked = True
            await self._send({"type": "http.response.body", "body": events, "more_body": True})
            self.blocked = False
        return b"" if self.connection.lost else events

    async def end_stream(self) -> None:
        """Send what is left, and the end."""
        await self._send({"type": "http.response.body", "body": self._framing.rest()})
        self.sent = Sent.WHOLE

    async def end_complete(self) -> None:
        """End a stream after its last event, whatever has come between; in the time that `fail` has."""
        if self.sent is Sent.STREAM:
            await self._in_time(self.end_stream())

    async def send_blank(self, headers: Headers, blank: bytes) -> None:
        """Send white space before a whole answer that is still to come, and before that its head."""
        self.blocked = True
        if self.sent is Sent.NOTHING:
            await self._send_head(200, headers)
            self.sent = Sent.BLANK
        await self._send({"type": "http.response.body", "body": blank, "more_body": True})
        self.blocked = False

    async def send_whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a response in one piece, its length added to `headers`; after white space only its body."""
        self.blocked = True
        if self.sent is Sent.NOTHING:
            headers.append((b"content-length", b"%d" % len(body)))
            await self._send_head(status, headers)
        self.sent = Sent.WHOLE
        for at in range(0, len(body) - _SLICE_BYTES, _SLICE_BYTES):
            await self._send({"type": "http.response.body", "body": body[at : at + _SLICE_BYTES], "more_body": True})
        last = body[(len(body) - 1) // _SLICE_BYTES * _SLICE_BYTES :] if body else body
        await self._send({"type": "http.response.body", "body": last})
        self.blocked = False

    async def fail(self, error: ApiError) -> None:
        """Send the error as the end of a response that has begun, else as the response it still can be.

        Takes 1 s at most; then, or after half of a whole response, the connection is aborted.
        """
        sent, self.sent = self.sent, Sent.WHOLE
        await self._in_time(self._send_last(sent, error))

    async def _in_time(self, sending: Coroutine[None, None, None]) -> None:
        try:
            # Not asyncio.timeout: of a task that was cancelled, it raises no TimeoutError in Debian's Python 3.11.2.
            await asyncio.wait_for(sending, _LAST_WORDS_S)
        except TimeoutError:
            await self.abort()

    async def _send_last(self, sent: Sent, error: ApiError) -> None:
        match sent:
            case Sent.NOTHING:
                await send_error(self._send, error, self._request_id, self._dialect, closing=self._draining())
            case Sent.STREAM | Sent.BLANK:
                event = self._framing.before_event() + self._dialect.error_event(error)
                await self._send({"type": "http.response.body", "body": event})
            case Sent.WHOLE:
                await self.abort()

    async def abort(self) -> None:
        """Close the connection at once, whatever is still to be sent on it."""
        self.connection.abort()
        # The server learns of it in the loop's next turn; before that it takes the half answer for a mistake of ours.
        await asyncio.sleep(0)

    async def _send_head(self, status: int, headers: Headers) -> None:
        if self._draining():
            headers.extend(encode(CLOSE))
        # A cancellation here comes before the head is written, never after: `sent` is set by the caller.
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

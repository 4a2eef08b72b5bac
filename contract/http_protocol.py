"""One connection of either server: uvicorn's parser and cycle, with limits on what a peer may send and not read."""

from __future__ import annotations

import asyncio
import secrets
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, Final

import httptools
import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from contract.api_error import ApiError, ErrorCode
from contract.child_api import REQUEST_ID_HEADER
from contract.logs import AtMostEvery

log = structlog.get_logger(__name__)

_RESET: Final = struct.pack("ii", 1, 0)  # struct linger of socket(7): on, for 0 seconds
_HUNG_UP: Final = select.POLLRDHUP | select.POLLHUP | select.POLLERR
_LARGEST_HEAD_BYTES: Final = 64 * 1024
_MOST_HEADERS: Final = 256  # of a request, with those after its body: each costs the loop a call
_READ_BYTES: Final = 32 * 1024  # at a time, so that the loop is soon with the next connection; asyncio takes 256 KiB
_CHUNK_OVERHEAD_BYTES: Final = 64  # of one chunk beside its data: the size, and extensions that nobody uses
_TRAILER_BYTES: Final = 16 * 1024
_MOST_PIPELINED: Final = 32
_LINGER_S: Final = 2.0
_LINGER_BYTES: Final = 32 * 1024 * 1024
_LOOK_S: Final = 0.25
_CONTINUE: Final = b"HTTP/1.1 100 "
_OFFERS: Final = frozenset({b"upgrade", b"http2-settings"})
_full: Final = AtMostEvery(1.0)


@dataclass(frozen=True)
class ConnectionLimits:
    """What one peer may take. Times in seconds.

    A request's head has `head_timeout_s`; a peer that does not read has `write_timeout_s`; an idle connection is kept
    for `keep_alive_s`. Of `connections` the one that has been idle for longest makes room for a new one.
    """

    write_timeout_s: float
    head_timeout_s: float = 30.0
    keep_alive_s: float = 75.0  # whoever calls keeps an idle connection for less, so that none dies in use
    connections: int = 10_000


class _Parsed(Enum):
    """What of a request the parser is in."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class HttpProtocol(HttpToolsProtocol):
    """Serves one connection, and ends it where its peer would keep it, or make it grow, without end.

    A response that its peer holds up gets `write_timeout_s` seconds to go on, which is a lowest rate. What waits for
    the peer after a response is complete, also where the connection closes then, has to shrink in that time. Else the
    connection is reset, and `stalled` is True. `lost` is True once the connection is no more, whoever ended it.
    """

    def __init__(
        self, *args: Any, limits: ConnectionLimits, idle: dict[HttpProtocol, None] | None = None, **options: Any
    ) -> None:
        """`idle` is shared by all connections of a server: those without a request, the longest idle one first."""
        super().__init__(*args, **options)
        self._limits = limits
        self._idle = {} if idle is None else idle
        self._parsed = _Parsed.NOTHING
        self._running: RequestResponseCycle | None = None  # `cycle` is the newest, which may still wait for it
        self._may_keep_alive = True
        self._offer: list[tuple[bytes, bytes]] | None = None
        self._too_much: str | None = None  # what a request has too much of
        self._head_bytes = 0  # of the pieces that have come before the one that is parsed
        self._fed_bytes = 0  # of that one
        self._body_bytes = 0  # of what is being parsed
        self._overhead_bytes = 0  # of a body in chunks, beside the body
        self._chunks = 0
        self._lingering_bytes: int | None = None
        self._unsent_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self.lost = False
        self.stalled = False
        self._when_lost: Callable[[], None] | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.max_size = _READ_BYTES  # type: ignore[attr-defined]
        self.flow = _WatchedFlow(transport, self.loop, self._look_for_peer)
        self._idle[self] = None
        self._await_head()
        if len(self.connections) > self._limits.connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._idle.pop(self, None)
        for timer in (self._head_timer, self._write_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        # uvicorn tells the newest request alone, and that may be one that has not begun.
        self.pipeline.clear()
        self._disconnect_running()
        super().connection_lost(exc)

    def _disconnect_running(self) -> None:
        """Tell the request that is being answered that nothing of its answer is sent any more."""
        if self._when_lost is not None:
            self._when_lost()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def abort(self) -> None:
        """Reset the connection at once, whatever is still to be sent on it."""
        # Reset, not closed: else the kernel keeps what a peer never reads, and the peer never learns. That holds
        # for a connection that is being closed, too: its last bytes wait for the peer.
        connection = self.transport.get_extra_info("socket")
        if connection.fileno() != -1:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def call_when_lost(self, callback: Callable[[], None]) -> None:
        """Have this called once nothing is sent any more, at once if it is so now.

        It is for the request that is being answered, and in place of waiting for an `http.disconnect`: that costs a
        task for each request. That of the request before counts no longer.
        """
        self._when_lost = callback
        self.flow.resume_reading()  # the peer's end is read
        if self.lost:
            callback()

    def forget_when_lost(self, callback: Callable[[], None]) -> None:
        """Do not call this any more; another one, of the next request, stays."""
        if self._when_lost == callback:
            self._when_lost = None

    @property
    def is_idle(self) -> bool:
        """Whether no request of this connection is being answered."""
        return self._running is None or self._running.response_complete

    @property
    def has_whole_body(self) -> bool:
        """Whether all of the body of the request that is being answered has come."""
        return self._running is not None and not self._running.more_body

    def _make_room(self) -> None:
        longest = next(iter(self._idle))  # this one itself if there is no other
        if longest is not self:
            del self._idle[longest]  # until its end is noticed, the next new one takes another
            longest.abort()
        else:
            message = "The server has as many connections as it takes; try again."
            self.refuse(ApiError(ErrorCode.QUEUE_FULL, message, headers={"retry-after": "1"}, status=503))
        if _full.due():
            log.warning("connections_full", connections=len(self.connections), hint="MAX_CONNECTIONS")

    def _look_for_peer(self) -> None:
        """End the connection if the peer has left; while nothing is read, nothing else would notice."""
        watch = select.poll()
        watch.register(self.transport.get_extra_info("socket"), _HUNG_UP)
        if watch.poll(0):
            self.abort()

    # What comes in

    def data_received(self, data: bytes) -> None:
        if self._lingering_bytes is not None:
            self._lingering_bytes += len(data)
            if self._lingering_bytes > _LINGER_BYTES:
                self.abort()
            return
        was_in_body, self._body_bytes = self._parsed is _Parsed.BODY, 0
        self._fed_bytes = len(data)
        self._feed(data)
        if self.transport.is_closing() or self._lingering_bytes is not None:
            return
        # httptools itself has no limits: it collects a header, or a trailer, for as long as it goes on.
        if self._parsed is _Parsed.HEAD:
            self._head_bytes += len(data)
            self._await_head()
            if self._head_bytes > _LARGEST_HEAD_BYTES:
                self.refuse(_bad_http("The request's head is too large."))
        elif self._parsed is _Parsed.BODY and was_in_body:
            self._overhead_bytes += len(data) - self._body_bytes
            if self._overhead_bytes > _TRAILER_BYTES + self._chunks * _CHUNK_OVERHEAD_BYTES:
                self.refuse(_bad_http("The request has more around its body than the server takes."))
        elif self.is_idle:  # line breaks between two requests
            self._await_head()

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.refuse(_bad_http(self._too_much or "The request is not valid HTTP."))
        except httptools.HttpParserUpgrade as offer:
            rest = data[offer.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            if self._offer is not None:
                self._ignore_offer(self._offer, rest)

    def _ignore_offer(self, headers: list[tuple[bytes, bytes]], rest: bytes) -> None:
        """Parse a request that offers another protocol as if it did not (RFC 9110, section 7.8).

        The parser takes what follows its head for the other protocol, so that it gets the head again, without the
        offer.
        """
        self._offer = None
        method = self.scope["method"]
        if method == "CONNECT":
            self.refuse(_bad_http("The server is no proxy."))
            return
        head = [b"%s %s HTTP/%s\r\n" % (method.encode(), self.url, self.scope["http_version"].encode())]
        for name, value in headers:
            if name == b"connection":
                value = b", ".join(part for part in value.split(b",") if part.strip().lower() not in _OFFERS)  # noqa: PLW2901
            if name not in _OFFERS:
                head.append(b"%s: %s\r\n" % (name, value))
        self._feed(b"".join((*head, b"\r\n", rest)))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._parsed, self._head_bytes = _Parsed.HEAD, 0
        self._overhead_bytes, self._chunks = 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self.headers
        if len(headers) >= _MOST_HEADERS:
            self._too_much = "The request has more headers than the server takes."
            raise ValueError  # the parser stops at once
        headers.append((name, value))

    def on_headers_complete(self) -> None:
        # The sum of all pieces is more where the last one has of the body, too.
        is_long = self._head_bytes + self._fed_bytes > _LARGEST_HEAD_BYTES
        if is_long and sum(len(name) + len(value) for name, value in self.headers) > _LARGEST_HEAD_BYTES:
            self._too_much = "The request's head is too large."
            raise ValueError
        self._parsed = _Parsed.BODY
        self._stop_head_timer()
        # What uvicorn does with each header by itself is done with all of them at once, which costs less. Those that
        # follow the body are added to the list as it was, and so count for nothing (RFC 9110, section 6.5.1).
        lowered = self.scope["headers"] = [(name.lower(), value) for name, value in self.headers]
        named = dict(lowered)
        if b"expect" in named:
            self.expect_100_continue = any(
                name == b"expect" and value.lower() == b"100-continue" for name, value in lowered
            )
        if len(named) < len(lowered) and [name for name, _ in lowered].count(b"host") > 1:
            self._too_much = "The request has more than one Host header."  # RFC 9112, section 3.2
            raise ValueError
        if self.parser.should_upgrade():
            self._offer = lowered
            self.scope["method"] = self.parser.get_method().decode("ascii")
            self.scope["http_version"] = self.parser.get_http_version()
            return
        if len(self.pipeline) >= _MOST_PIPELINED:
            self.abort()
            return
        super().on_headers_complete()
        cycle = self.cycle
        unchunked = self.scope["http_version"] == "1.0"
        cycle.transport = _Outgoing(self.transport, self._close_after_response, self.loop, unchunked=unchunked)  # type: ignore[assignment]
        # uvicorn chooses the framing when nobody has: HTTP/1.0 knows no chunks, so that they are taken out again.
        cycle.chunked_encoding = True if unchunked else None
        # A response that comes before the end of the request says that the connection closes.
        self._may_keep_alive, cycle.keep_alive = cycle.keep_alive, False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._idle.pop(self, None)
        super()._start_asgi_task(cycle, app)

    def on_chunk_header(self) -> None:
        """Count a chunk of the body."""
        self._chunks += 1

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._parsed = _Parsed.NOTHING
        if self._offer is None:
            if not self.cycle.response_started:
                self.cycle.keep_alive = self._may_keep_alive
            super().on_message_complete()

    def eof_received(self) -> None:
        if self._lingering_bytes is not None:
            self.transport.close()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.is_idle:  # the head of a next request may wait for the answer to this one
            self._await_head()
        elif self._parsed is _Parsed.HEAD:
            self.refuse(ApiError(ErrorCode.REQUEST_TIMEOUT, "The request's head did not come in time."))
        else:
            self._close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    # What goes out

    def refuse(self, error: ApiError) -> None:
        """Answer what is no request that could be served, and close; reset, if another answer has begun."""
        if self.transport.is_closing():
            return
        if self._running is not None and self._running.response_started and not self._running.response_complete:
            self.abort()
            return
        body = error.body()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            REQUEST_ID_HEADER: secrets.token_hex(16),
            **error.headers,
        }
        lines = [
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        self.transport.write("\r\n".join((*lines, "", "")).encode("latin-1") + body)
        self._disconnect_running()
        self.pipeline.clear()
        self._linger()

    def on_response_complete(self) -> None:
        if not self.lost:
            self._idle[self] = None
        if self._lingering_bytes is not None:
            return
        super().on_response_complete()
        if self.pipeline:
            self.flow.pause_reading()  # until these have been answered
        self._watch_writing()
        if self._parsed is _Parsed.HEAD:
            self._await_head()

    def shutdown(self) -> None:
        self._may_keep_alive = False
        super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _close(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
        self._watch_writing()

    def _close_after_response(self) -> None:
        if self._parsed is _Parsed.BODY:
            self._linger()
        else:
            self._close()

    def _linger(self) -> None:
        """Send the end, and let a peer that is still sending read the answer: closing now would reset it."""
        self._lingering_bytes = 0
        self._stop_head_timer()
        self._unset_keepalive_if_required()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._linger_timer = self.loop.call_later(_LINGER_S, self.abort)

    def _watch_writing(self) -> None:
        """Give the peer its time from now on, if anything waits for it."""
        self._stop_write_timer()
        self._unsent_bytes = self.transport.get_write_buffer_size()
        if self._unsent_bytes:
            self._write_timer = self.loop.call_later(self._limits.write_timeout_s, self._look_at_writing)

    def _look_at_writing(self) -> None:
        # A next response that is not held up adds to what waits, so that nothing can be told by its size.
        shrinks = not self.is_idle or self.transport.get_write_buffer_size() < self._unsent_bytes
        if shrinks and not self.flow.write_paused:
            self._watch_writing()
        else:
            self.stalled = True
            self.abort()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class _Outgoing:
    """What a response writes to: the transport, with a way to close that is the protocol's.

    The head waits for what follows it in the same turn of the loop: a send costs more than all that makes up a head.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        close: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
        *,
        unchunked: bool,
    ) -> None:
        self._transport, self._close, self._loop, self._unchunked = transport, close, loop, unchunked
        self._head: bytes | None = None  # empty once it has been sent
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head is None:
            if data.startswith(_CONTINUE):
                self._transport.write(data)
            else:
                self._head = data
                self._loop.call_soon(self._send_head)
            return
        head, self._head = self._head, b""
        if self._unchunked:
            data = _without_chunk(data)
        else:
            self.write = self._transport.write  # type: ignore[method-assign]  # what is still to come needs no call here
        self._transport.write(head + data)

    def close(self) -> None:
        self._send_head()
        self._close()

    def _send_head(self) -> None:
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
            self._head = b""


def _without_chunk(data: bytes) -> bytes:
    """Return the body that is in one body message of uvicorn's: at most one chunk, and the last chunk."""
    size, _, rest = data.partition(b"\r\n")
    return rest[: int(size, 16)] if size else b""


class _WatchedFlow(FlowControl):
    """Looks for the peer every now and then while nothing is read from it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, look: Callable[[], None]) -> None:
        super().__init__(transport)
        self._loop = loop
        self._look_for_peer = look
        self._timer: asyncio.TimerHandle | None = None

    def pause_reading(self) -> None:
        super().pause_reading()
        if self._timer is None:
            self._timer = self._loop.call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if self.read_paused and not self._transport.is_closing():
            self._timer = self._loop.call_later(_LOOK_S, self._look)
            self._look_for_peer()


def _bad_http(message: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_REQUEST, message)

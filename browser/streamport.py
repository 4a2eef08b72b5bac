"""The child's stream port: where the hook in the page delivers what the page receives.

A WebSocket on loopback. The first message is text: the token of this browser's start. Then come binary
messages: the answer's nonce (16 ASCII bytes), a sequence number and a stream number (unsigned 32 bits,
big-endian), a kind (8 bits), and the payload. See browser/hook.js for the sender.
"""

import asyncio
import errno
import hmac
import struct
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

import structlog
from aiohttp import WSMsgType, web

from browser.errors import StreamPortTaken

log = structlog.get_logger("browser")

HELLO_TIMEOUT_S = 5.0
MAX_STRANGERS = 8
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_WAITING_BYTES = 64 * 1024 * 1024
_HEADER = struct.Struct(">16sIIB")


class Kind(IntEnum):
    """What a frame carries; the numbers are hook.js's."""

    ARMED = 0
    OPEN = 1
    CHUNK = 2
    END = 3
    BROKEN = 4
    EVENT = 5
    DOM_ADD = 6
    DOM_SET = 7
    DOM_DONE = 8
    DOM_ERROR = 9
    LOGIN_LOST = 10
    GAP = 255  # made here: something of this answer was lost


@dataclass(frozen=True)
class Frame:
    kind: Kind
    stream: int = 0
    payload: bytes = b""


class BadFrame(ValueError):
    """A message is not a frame."""


def unpack(message: bytes) -> tuple[bytes, int, Frame]:
    """Return a message's nonce, sequence number and frame. Raises BadFrame."""
    try:
        nonce, sequence, stream, kind = _HEADER.unpack_from(message)
        return nonce, sequence, Frame(Kind(kind), stream, message[_HEADER.size :])
    except (struct.error, ValueError):
        raise BadFrame from None


class Feed:
    """The frames of one answer, in order and without a hole: a hole is a frame of the kind GAP."""

    def __init__(self, nonce: bytes) -> None:
        self.nonce = nonce
        self._items: deque[Frame | Exception] = deque()
        self._arrived = asyncio.Event()
        self._connection: object = None
        self._next_sequence = 0
        self._waiting_bytes = 0
        self._has_gap = False

    def deliver(self, connection: object, sequence: int, frame: Frame) -> None:
        """Take a frame from a connection; the first one to deliver is the answer's, others are not heard."""
        if self._connection is None:
            self._connection = connection
        if self._connection is not connection or self._has_gap:
            return
        if sequence != self._next_sequence or self._waiting_bytes > MAX_WAITING_BYTES:
            self._lose()
            return
        self._next_sequence += 1
        self.put(frame)

    def closed(self, connection: object) -> None:
        """Say that a connection is gone: with it goes the rest of an answer that came over it."""
        if self._connection is connection and not self._has_gap:
            self._lose()

    def _lose(self) -> None:
        self._has_gap = True
        self.put(Frame(Kind.GAP))

    def put(self, item: Frame | Exception) -> None:
        """Add a frame that did not come over the port, or an error for `next` to raise."""
        if isinstance(item, Frame):
            self._waiting_bytes += len(item.payload)
        self._items.append(item)
        self._arrived.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait up to timeout_s seconds for a frame to be there. Returns whether one is."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True

    async def next(self) -> Frame:
        """Return the next frame. Raises the error that was put in its place."""
        await self._arrived.wait()
        item = self._items.popleft()
        if not self._items:
            self._arrived.clear()
        if isinstance(item, Exception):
            raise item
        self._waiting_bytes -= len(item.payload)
        return item


class StreamPort:
    """Listens on 127.0.0.1:port for pages of one origin that know the token; hears one answer at a time."""

    def __init__(self, *, port: int, origin: str, token: str) -> None:
        self._port = port
        self._origin = origin
        self._token = token
        self._strangers = 0
        self._feed: Feed | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises StreamPortTaken."""
        app = web.Application()
        app.router.add_get("/", self._accept)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        except OSError as error:
            await self.stop()
            problem = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
            raise StreamPortTaken(f"stream port {self._port} on 127.0.0.1 {problem}; choose another") from None

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    def open_feed(self, nonce: str) -> Feed:
        """Hear the answer of this nonce from here on, and no other."""
        self._feed = Feed(nonce.encode("ascii"))
        return self._feed

    def close_feed(self, feed: Feed) -> None:
        if self._feed is feed:
            self._feed = None

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Origin") != self._origin or self._strangers >= MAX_STRANGERS:
            log.warning("stream_port_refused", strangers=self._strangers)
            return web.Response(status=403)
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, compress=False, heartbeat=30)
        await socket.prepare(request)
        if await self._knows_token(socket):
            await self._receive(socket)
        else:
            log.warning("stream_port_refused", reason="token")
            await socket.close()
        return socket

    async def _knows_token(self, socket: web.WebSocketResponse) -> bool:
        self._strangers += 1
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = await socket.receive()
        except TimeoutError:
            return False
        finally:
            self._strangers -= 1
        return hello.type is WSMsgType.TEXT and hmac.compare_digest(hello.data.encode(), self._token.encode())

    async def _receive(self, socket: web.WebSocketResponse) -> None:
        try:
            async for message in socket:
                if message.type is not WSMsgType.BINARY:
                    break
                self._take(socket, message.data)
        finally:
            if self._feed:
                self._feed.closed(socket)

    def _take(self, socket: web.WebSocketResponse, message: bytes) -> None:
        feed = self._feed
        try:
            nonce, sequence, frame = unpack(message)
        except BadFrame:
            if feed:
                feed.closed(socket)
            return
        if feed and hmac.compare_digest(nonce, feed.nonce):
            feed.deliver(socket, sequence, frame)

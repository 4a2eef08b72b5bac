"""The child's stream port: where the hook in the page delivers what the page receives.

A WebSocket on loopback (`browser.capture.stream_server`). The first message is text: the token of this start. Then
come binary messages: the answer's nonce (16 ASCII bytes), a sequence number and a stream number (unsigned 32 bits,
big-endian), a kind (8 bits), and the payload. See browser/capture/hook.js for the sender.
"""

import asyncio
import errno
import hmac
import importlib
import socket
import struct
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from browser.errors import StreamPortTaken

if TYPE_CHECKING:
    from browser.capture.stream_server import StreamServer

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
        self._feed: Feed | None = None
        self._server: asyncio.Task[StreamServer] | None = None

    async def start(self) -> None:
        """Take the port; whoever connects is heard as soon as the server is imported. Raises StreamPortTaken."""
        try:
            listener = socket.create_server(("127.0.0.1", self._port))
        except OSError as error:
            problem = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
            raise StreamPortTaken(f"stream port {self._port} on 127.0.0.1 {problem}; choose another") from None
        self._server = asyncio.create_task(self._serve(listener), name="stream-port")

    async def _serve(self, listener: socket.socket) -> "StreamServer":
        # Much to import, and a browser is to be started meanwhile.
        module = await asyncio.to_thread(importlib.import_module, "browser.capture.stream_server")
        server: StreamServer = module.StreamServer(self._origin, self._token, self._take, self.closed)
        await server.start(listener)
        return server

    async def serving(self) -> None:
        """Return once pages are heard."""
        if self._server:
            await self._server

    async def stop(self) -> None:
        if self._server:
            server = await self._server
            self._server = None
            await server.stop()

    def open_feed(self, nonce: str) -> Feed:
        """Hear the answer of this nonce from here on, and no other."""
        self._feed = Feed(nonce.encode("ascii"))
        return self._feed

    def close_feed(self, feed: Feed) -> None:
        if self._feed is feed:
            self._feed = None

    def take(self, connection: object, message: bytes) -> None:
        """Take a message of a connection that may speak for the page. Raises BadFrame."""
        feed = self._feed
        nonce, sequence, frame = unpack(message)
        if feed and hmac.compare_digest(nonce, feed.nonce):
            feed.deliver(connection, sequence, frame)

    def closed(self, connection: object) -> None:
        """Say that a connection is gone."""
        if self._feed:
            self._feed.closed(connection)

    def _take(self, connection: object, message: bytes) -> None:
        try:
            self.take(connection, message)
        except BadFrame:  # of the hook's own: then it is broken, and so is the answer
            self.closed(connection)

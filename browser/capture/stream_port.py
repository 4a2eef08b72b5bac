"""The stream port: where the hooks in pages deliver what the pages receive.

A WebSocket on loopback (`browser.capture.stream_server`). The first message is text: the token of one page's capture,
whose `StreamReceiver` gets what follows. Then come frames as binary messages (`browser.capture.frames`). The child
sends nothing but the empty messages of `browser.capture.look_channel`. Pages that share a browser share the port.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import importlib
import socket
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from browser.capture.frames import Feed, FrameKind, unpack
from browser.capture.look_channel import LookChannel, Send
from browser.errors import StreamPortTaken

# Its import costs a child's start what aiohttp costs: see `StreamPort._serve`.
if TYPE_CHECKING:
    from browser.capture.stream_server import StreamServer


class StreamReceiver:
    """Takes what the hooks of one page deliver: those of one origin that know the token; one answer at a time."""

    def __init__(self, *, origin: str, token: str) -> None:
        self.origin = origin
        self._token = token.encode()
        self._feed: Feed | None = None
        self._channels: WeakValueDictionary[bytes, LookChannel] = WeakValueDictionary()

    def has_token(self, token: str) -> bool:
        """Return whether this is the token, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(token.encode(), self._token)

    def open_feed(self, nonce: str) -> Feed:
        """Return a new feed: from here on frames with this nonce go to it, and others are dropped."""
        self._feed = Feed(nonce.encode("ascii"))
        return self._feed

    def close_feed(self, feed: Feed) -> None:
        """Drop the frames of this feed's answer from here on."""
        if self._feed is feed:
            self._feed = None

    def open_channel(self) -> LookChannel:
        """Return a new channel for looks: answers with its nonce go to it for as long as somebody has it."""
        channel = LookChannel()
        self._channels[channel.nonce.encode("ascii")] = channel
        return channel

    def take(self, connection: object, message: bytes, send: Send | None = None) -> None:
        """Take a message of a connection that has shown the token. Raises BadFrame.

        `send` sends text over the connection, if it has that way too.
        """
        if not message and any(asked.take_same(connection) for asked in list(self._channels.values())):
            return
        feed = self._feed
        nonce, sequence, frame = unpack(message)
        if frame.kind is FrameKind.LOOK:
            channel = self._channels.get(nonce)
            if channel and send:
                channel.take(connection, sequence, frame.payload, send)
        elif feed and hmac.compare_digest(nonce, feed.nonce):
            feed.deliver(connection, sequence, frame)

    def closed(self, connection: object) -> None:
        """Note that a connection is gone."""
        if self._feed:
            self._feed.closed(connection)
        for channel in list(self._channels.values()):
            channel.closed(connection)


class StreamPort:
    """Listens on 127.0.0.1:port for pages; hands each connection to the receiver whose token it knows."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._receivers: list[StreamReceiver] = []
        self._server: asyncio.Task[StreamServer] | None = None

    def add(self, receiver: StreamReceiver) -> None:
        """Let pages connect that know this receiver's token."""
        self._receivers.append(receiver)

    def remove(self, receiver: StreamReceiver) -> None:
        """Let none connect to it any more; connections that it has stay until their pages are gone."""
        self._receivers.remove(receiver)

    async def start(self) -> None:
        """Bind the port; connections are served as soon as the server is imported. Raises StreamPortTaken."""
        try:
            listener = socket.create_server(("127.0.0.1", self._port))
        except OSError as error:
            problem = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
            raise StreamPortTaken(f"stream port {self._port} on 127.0.0.1 {problem}; choose another") from None
        self._server = asyncio.create_task(self._serve(listener), name="stream-port")

    async def _serve(self, listener: socket.socket) -> StreamServer:
        # Imported in a thread: it takes long, and the browser is started meanwhile.
        module = await asyncio.to_thread(importlib.import_module, "browser.capture.stream_server")
        server: StreamServer = module.StreamServer(self._receivers)
        await server.start(listener)
        return server

    async def serving(self) -> None:
        """Wait until connections are served."""
        if self._server:
            await self._server

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server:
            server = await self._server
            self._server = None
            await server.stop()

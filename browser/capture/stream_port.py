"""The stream port: where the hooks in pages deliver what the pages receive.

A WebSocket on loopback (`browser.capture.stream_server`). The first message is text: the token of one page's capture,
whose `StreamReceiver` gets what follows. Then come frames as binary messages (`browser.capture.frames`). The child
sends nothing but the empty messages of `browser.capture.look_channel`. Pages that share a browser share the port.
"""

from __future__ import annotations

import asyncio
import errno
import importlib
import socket
from typing import TYPE_CHECKING

from browser.capture.stream_receiver import StreamReceiver
from browser.errors import StreamPortTaken

# Its import costs a child's start what aiohttp costs: see `StreamPort._serve`.
if TYPE_CHECKING:
    from browser.capture.stream_server import StreamServer


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

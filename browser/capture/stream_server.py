"""The stream port's server: a WebSocket for connections of a page's origin that know its token."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

import structlog
from aiohttp import WSMsgType, web
from aiohttp.http_exceptions import HttpProcessingError

from browser.capture.frames import TURN_FRAMES, BadFrame
from browser.capture.stream_receiver import StreamReceiver
from contract.logs import AtMostEvery

log = structlog.get_logger("browser")

# Any page in any browser of this machine may connect: those without the token must not pile up.
HELLO_TIMEOUT_S = 5.0
MAX_STRANGERS = 8
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
REFUSED_EVERY_S = 60.0


def _is_not_about_bad_http(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_server_log = logging.getLogger("browser.stream_server")
_server_log.addFilter(_is_not_about_bad_http)  # anybody can send that, any number of times


class StreamServer:
    """Hands the messages of a connection to the receiver whose token it shows, and tells it when it is gone."""

    def __init__(self, receivers: Sequence[StreamReceiver]) -> None:
        """`receivers` are those of this moment whenever a connection comes."""
        self._receivers = receivers
        self._strangers = 0
        self._refusal_logged = AtMostEvery(REFUSED_EVERY_S)
        app = web.Application()
        app.router.add_get("/", self._accept)
        self._runner = web.AppRunner(app, access_log=None, logger=_server_log, shutdown_timeout=0.5)

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket, which is closed in the end."""
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Close every connection and the listening socket."""
        await self._runner.cleanup()

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        candidates = [receiver for receiver in self._receivers if receiver.origin == origin]
        if not candidates or self._strangers >= MAX_STRANGERS * len(self._receivers):
            self._log_refusal(reason="strangers" if candidates else "origin")
            return web.Response(status=403)
        # Not compressed: over loopback that would cost more than it saves.
        socket = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, compress=False, heartbeat=30)
        await socket.prepare(request)
        self._strangers += 1
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = await socket.receive()
        except TimeoutError:
            hello = None
        finally:
            self._strangers -= 1
        token = hello.data if hello is not None and hello.type is WSMsgType.TEXT else ""
        receiver = next((found for found in candidates if found.has_token(token)), None)
        # A page that was closed meanwhile takes nothing any more.
        if receiver is None or receiver not in self._receivers:
            self._log_refusal(reason="token")
            await socket.close()
            return socket
        try:
            taken = 0
            async for message in socket:
                if message.type is not WSMsgType.BINARY:
                    break
                try:
                    receiver.take(socket, message.data, socket.send_str)
                except BadFrame:  # only the hook knows the token: it is broken, and so is the answer
                    receiver.closed(socket)
                taken += 1
                if taken % TURN_FRAMES == 0:
                    await asyncio.sleep(0)  # messages that are there already are handed out without a turn of the loop
        finally:
            receiver.closed(socket)
        return socket

    def _log_refusal(self, *, reason: str) -> None:
        if self._refusal_logged.due():
            log.warning("stream_port_refused", reason=reason)

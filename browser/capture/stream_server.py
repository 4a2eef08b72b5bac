"""The stream port's server: a WebSocket for connections of a page's origin that know its token."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Sequence
from http import HTTPStatus

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from browser.capture.frames import TURN_FRAMES, BadFrame
from browser.capture.stream_receiver import StreamReceiver
from contract.logs import AtMostEvery

log = structlog.get_logger("browser")

# Any page in any browser of this machine may connect: those without the token must not pile up.
HELLO_TIMEOUT_S = 5.0
MAX_STRANGERS = 8
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
PING_INTERVAL_S, PONG_TIMEOUT_S = 30.0, 15.0
CLOSE_TIMEOUT_S = 0.5
REFUSED_EVERY_S = 60.0


class _Connection(ServerConnection):
    """A connection, and whom its messages are for, once it has shown a token; `candidates` are those of its origin."""

    candidates: Sequence[StreamReceiver] = ()
    receiver: StreamReceiver | None = None


def _is_of_a_page(record: logging.LogRecord) -> bool:
    connection = getattr(record, "websocket", None)
    return isinstance(connection, _Connection) and connection.receiver is not None


_server_log = logging.getLogger("browser.stream_server")
_server_log.setLevel(logging.WARNING)  # below that it tells what the pages send
_server_log.addFilter(_is_of_a_page)  # anybody can send what it complains of, any number of times


class StreamServer:
    """Hands the messages of a connection to the receiver whose token it shows, and tells it when it is gone."""

    def __init__(self, receivers: Sequence[StreamReceiver]) -> None:
        """`receivers` are those of this moment whenever a connection comes."""
        self._receivers = receivers
        self._strangers = 0
        self._refusal_logged = AtMostEvery(REFUSED_EVERY_S)
        self._server: Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket, which is closed in the end."""
        self._server = await serve(
            self._serve,
            sock=listener,
            create_connection=_Connection,
            process_request=self._refuse,
            compression=None,  # over loopback it would cost more than it saves
            server_header=None,
            open_timeout=HELLO_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PONG_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            max_size=MAX_MESSAGE_BYTES,
            max_queue=TURN_FRAMES,
            logger=_server_log,
        )

    async def stop(self) -> None:
        """Close every connection and the listening socket."""
        if self._server is not None:
            self._server.close()
            # A connection that sends no request is not waited for: it is closed when its time to do so is over.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 2 * CLOSE_TIMEOUT_S)

    def _refuse(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request that is not let in; return None for one that is."""
        assert isinstance(connection, _Connection)  # noqa: S101 - as `serve` was told
        origins = request.headers.get_all("Origin")
        candidates = [receiver for receiver in self._receivers if [receiver.origin] == origins]
        connection.candidates = candidates
        if candidates and self._strangers < MAX_STRANGERS * len(self._receivers):
            return None
        self._log_refusal(reason="strangers" if candidates else "origin")
        return connection.respond(HTTPStatus.FORBIDDEN, "")

    async def _serve(self, connection: ServerConnection) -> None:
        assert isinstance(connection, _Connection)  # noqa: S101 - as `serve` was told
        connection.receiver = receiver = await self._admitted(connection)
        if receiver is None:
            self._log_refusal(reason="token")
            return

        async def send(text: str) -> None:
            try:
                await connection.send(text)
            except ConnectionClosed:
                raise ConnectionResetError from None

        try:
            taken = 0
            with contextlib.suppress(ConnectionClosed):
                while isinstance(message := await connection.recv(), bytes):
                    try:
                        receiver.take(connection, message, send)
                    except BadFrame:  # only the hook knows the token: it is broken, and so is the answer
                        receiver.closed(connection)
                    taken += 1
                    if taken % TURN_FRAMES == 0:
                        await asyncio.sleep(0)  # messages that are there already come without a turn of the loop
        finally:
            receiver.closed(connection)

    async def _admitted(self, connection: _Connection) -> StreamReceiver | None:
        """Return the receiver whose token is the connection's first message; None if that is another, or late."""
        self._strangers += 1
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                hello = await connection.recv()
        except (TimeoutError, ConnectionClosed):
            return None
        finally:
            self._strangers -= 1
        known = (found for found in connection.candidates if isinstance(hello, str) and found.has_token(hello))
        receiver = next(known, None)
        # A page that was closed meanwhile takes nothing any more.
        return receiver if receiver in self._receivers else None

    def _log_refusal(self, *, reason: str) -> None:
        if self._refusal_logged.due():
            log.warning("stream_port_refused", reason=reason)

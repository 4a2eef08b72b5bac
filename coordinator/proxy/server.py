"""How uvicorn is made to serve a fleet: a socket bound early, signals left to us, connections that can be cut."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from coordinator.errors import PortConflict
from coordinator.proxy.application import ABORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp

_BACKLOG: Final = 2048
_RESET: Final = struct.pack("ii", 1, 0)  # struct linger of socket(7): on, for 0 seconds
_KEEP_ALIVE_S: Final = 75  # clients keep idle connections for less, so that none dies in use
_LARGEST_HEAD_BYTES: Final = 64 * 1024
_GRACE_S: Final = 2  # a backstop: every request has ended before the server is told to


class _Protocol(HttpToolsProtocol):
    """Gives every request the way to cut its own connection, and takes no endless heads."""

    _head_bytes = 0
    _in_head = True

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0
        self.scope["extensions"] = {ABORT: self._abort}  # type: ignore[dict-item]

    def _abort(self) -> None:
        if self.transport.is_closing():
            return
        # Reset, not closed: else the kernel keeps what a client never reads, and the client never learns.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _LARGEST_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("Request head too large.")


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals alone: its own handlers would refuse connections at once."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GRACE_S,
            )
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortConflict, which names the variables to change."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _listen(socket.socket(family, kind, protocol), address)
    except socket.gaierror as error:
        raise PortConflict(
            f"COORDINATOR_HOST={host} is no address of this machine: {error.strerror}; try 127.0.0.1 or 0.0.0.0."
        ) from None
    except OSError as error:
        raise PortConflict(_why_not(host, port, error)) from None


def _listen(listener: socket.socket, address: tuple[object, ...]) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} for the coordinator is in use; stop what uses it, or set COORDINATOR_PORT to another."
    if error.errno == errno.EACCES:
        return f"Port {port} for the coordinator needs privileges; set COORDINATOR_PORT to one above 1023."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"COORDINATOR_HOST={host} is no address of this machine; try 127.0.0.1 or 0.0.0.0."
    return f"COORDINATOR_HOST={host}, COORDINATOR_PORT={port}: cannot be bound ({error.strerror})."

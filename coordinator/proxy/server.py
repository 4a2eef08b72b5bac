"""The coordinator's HTTP server: a socket bound early, connections that can be aborted, heads that end."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from contract.http_server import HttpServer
from contract.listener import listen
from coordinator.errors import PortConflict
from coordinator.proxy.application import ABORT

_RESET: Final = struct.pack("ii", 1, 0)  # struct linger of socket(7): on, for 0 seconds
_LARGEST_HEAD_BYTES: Final = 64 * 1024


class Server(HttpServer):
    """Serves the coordinator's application; see HttpServer."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, http=_Protocol, ws="none", proxy_headers=False)


class _Protocol(HttpToolsProtocol):
    """Gives every request the way to abort its own connection, and takes no endless heads."""

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
        # httptools itself has no limit: it collects a header's value for as long as it goes on.
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _LARGEST_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("Request head too large.")


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises PortConflict, which names the variables to change."""
    try:
        return listen(host, port)
    except socket.gaierror as error:
        raise PortConflict(
            f"COORDINATOR_HOST={host} is no address of this machine: {error.strerror}; try 127.0.0.1 or 0.0.0.0."
        ) from None
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                what = f"Port {port} for the coordinator is in use"
                why = f"{what}; stop what uses it, or set COORDINATOR_PORT to another."
            case errno.EACCES:
                why = f"Port {port} for the coordinator needs privileges; set COORDINATOR_PORT to one above 1023."
            case errno.EADDRNOTAVAIL:
                why = f"COORDINATOR_HOST={host} is no address of this machine; try 127.0.0.1 or 0.0.0.0."
            case _:
                why = f"COORDINATOR_HOST={host}, COORDINATOR_PORT={port}: cannot be bound ({error.strerror})."
        raise PortConflict(why) from None

"""The coordinator's HTTP server: a socket bound early, and connections that the proxy can reset."""

from __future__ import annotations

import errno
import socket

from starlette.types import ASGIApp

from contract.http_protocol import ConnectionLimits, HttpProtocol
from contract.http_server import HttpServer
from contract.listener import listen
from coordinator.errors import PortConflict
from coordinator.proxy.application import CONNECTION


class Server(HttpServer):
    """Serves the coordinator's application; see HttpServer."""

    def __init__(self, app: ASGIApp, limits: ConnectionLimits) -> None:
        super().__init__(app, limits=limits, protocol=_Protocol, proxy_headers=False)


class _Protocol(HttpProtocol):
    """Gives every request its connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]


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

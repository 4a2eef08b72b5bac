"""The child's HTTP port."""

from __future__ import annotations

import socket


class PortInUse(OSError):
    """The child's port is taken; the message names it."""


def bind(port: int) -> socket.socket:
    """A listening socket on loopback. Raises PortInUse."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise PortInUse(f"--server-port {port} cannot be used: {error.strerror}; choose another") from None
    listener.setblocking(False)
    return listener

"""Free ports on loopback."""

from __future__ import annotations

import random
import socket

NOWHERE = "http://127.0.0.1:9"  # a proxy that is not there


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_range(count: int) -> int:
    """Return the first of `count` neighbouring ports that are free now, below those the system gives out itself."""
    while True:
        first = random.randrange(10_000, 32_000 - count)
        if all(is_free(port) for port in range(first, first + count)):
            return first

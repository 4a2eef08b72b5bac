"""Choose the ports of the demo: the product's defaults if they are free."""

from __future__ import annotations

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Ports:
    """The ports of the coordinator and of the first child."""

    coordinator: int
    api: int
    stream: int


def choose_ports(children: int) -> Ports:
    """Return the default ports if those of this many children are free, else a block of free ports."""
    usual = Ports(2048, 3100, 3200)
    if all(
        is_free(port) for port in (usual.coordinator, *_block(usual.api, children), *_block(usual.stream, children))
    ):
        return usual
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            base = int(probe.getsockname()[1])
        block = range(base, base + 1 + 2 * children)
        if block.stop < 65536 and all(is_free(port) for port in block):
            return Ports(base, base + 1, base + 1 + children)


def _block(first: int, children: int) -> range:
    return range(first, first + children)


def is_free(port: int) -> bool:
    """Return whether a server could listen on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

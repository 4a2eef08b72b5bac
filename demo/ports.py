"""Which ports the demo uses: the usual ones if nobody else has them."""

import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Ports:
    """The ports of the coordinator and of the first child."""

    coordinator: int
    api: int
    stream: int


def choose_ports(children: int) -> Ports:
    """Return the product's default ports if all are free for so many children, else free ones."""
    usual = Ports(2048, 3100, 3200)
    if all(
        is_free(port) for port in (usual.coordinator, *_block(usual.api, children), *_block(usual.stream, children))
    ):
        return usual
    while True:
        base = _ephemeral()
        block = range(base, base + 1 + 2 * children)
        if block.stop < 65536 and all(is_free(port) for port in block):
            return Ports(base, base + 1, base + 1 + children)


def _block(first: int, children: int) -> range:
    return range(first, first + children)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _ephemeral() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Free ports on loopback; each test process takes them from a block of its own."""

from __future__ import annotations

import functools
import random
import socket

NOWHERE = "http://127.0.0.1:9"  # a proxy that is not there
MIRROR = 10_000  # SeaweedFS listens that far above each of its ports, so a block's owner has those ports, too

_FIRST = 10_000
_BLOCK = 250
_BLOCKS = 40  # with their mirrors they end at 30,000, below the ports that the kernel gives to clients


def is_free(port: int) -> bool:
    """Return whether a server could listen on that port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_range(count: int, *, mirrored: bool = False) -> int:
    """Return the first of `count` neighbouring ports of this process that are free now, those used longest ago first.

    `mirrored`: the ports that are MIRROR above are free as well. Raises RuntimeError if there are no such ports.
    """
    return _own_block().take(count, mirrored=mirrored)


def wide_range(count: int) -> int:
    """Return the first of `count` neighbouring ports, more than a block has, that are free and this process's now.

    Each call takes further blocks. Raises RuntimeError if there are no such ports.
    """
    blocks = -(-count // _BLOCK)
    for first in range(_BLOCKS - blocks + 1):
        claims = [claim for number in range(first, first + blocks) if (claim := _claim(number))]
        start = _FIRST + first * _BLOCK
        if len(claims) == blocks and all(map(is_free, range(start, start + count))):
            _WIDE.extend(claims)
            return start
        for claim in claims:
            claim.close()
    raise RuntimeError(f"no {count} neighbouring ports are free")


_WIDE: list[socket.socket] = []


def _claim(number: int) -> socket.socket | None:
    """Claim a block until the socket is closed; None if another process has it."""
    # The kernel takes an abstract socket's name back when its process ends, however it ends; no file is left.
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0tabfleet-test-ports-{number}")
    except OSError:
        claim.close()
        return None
    return claim


class PortBlock:
    """Neighbouring ports that are this process's alone among all test processes on the machine.

    A port that a test hands to a child is free for a while before the child has it; in that time a test process
    beside this one would find the same port free.
    """

    def __init__(self) -> None:
        """Claim a block. Raises RuntimeError if none is left."""
        for number in random.sample(range(_BLOCKS), _BLOCKS):
            claim = _claim(number)
            if claim is not None:
                self._claim = claim
                self._start = self._next = _FIRST + number * _BLOCK
                return
        raise RuntimeError(f"all {_BLOCKS} blocks of ports are taken by test processes")

    def take(self, count: int, *, mirrored: bool = False) -> int:
        """Return the first of `count` neighbouring ports; see `free_range`."""
        starts = range(self._start, self._start + _BLOCK - count + 1)
        for first in sorted(starts, key=lambda start: start < self._next):
            ports = range(first, first + count)
            if all(is_free(port) and (not mirrored or is_free(port + MIRROR)) for port in ports):
                self._next = ports.stop
                return first
        raise RuntimeError(f"no {count} neighbouring ports are free of those from {self._start} on")


@functools.cache
def _own_block() -> PortBlock:
    return PortBlock()

"""Which ports children take, checked before anything is launched."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from coordinator.errors import PortConflict

_LAST_PORT: Final = 65535


@dataclass(frozen=True)
class Slot:
    """The ports of one running child, and their number from 0."""

    index: int
    api_port: int
    stream_port: int


@dataclass(frozen=True)
class PortPlan:
    """Where the ports of all children lie: slot i takes base + i * step for the API and for the stream.

    The `spares`, browsers without a child, take the stream ports that follow.
    """

    coordinator_port: int
    base_api_port: int = 3100
    base_stream_port: int = 3200
    step: int = 1
    spares: int = 0

    def slot(self, index: int) -> Slot:
        """Return the slot of that number, from 0."""
        offset = index * self.step
        return Slot(index, self.base_api_port + offset, self.base_stream_port + offset)

    def wanted(self, count: int) -> Iterator[tuple[int, str]]:
        """Yield each port that `count` children and the coordinator take, with who wants it."""
        yield self.coordinator_port, f"the coordinator (COORDINATOR_PORT={self.coordinator_port})"
        for slot in map(self.slot, range(count)):
            yield slot.api_port, f"child {slot.index + 1}'s API (BASE_API_PORT={self.base_api_port})"
            yield (
                slot.stream_port,
                f"child {slot.index + 1}'s stream (BASE_STREAM_PORT={self.base_stream_port})",
            )
        for number in range(self.spares):
            owner = f"spare browser {number + 1}'s stream (BASE_STREAM_PORT={self.base_stream_port})"
            yield self.slot(count + number).stream_port, owner

    def check(self, count: int) -> None:
        """Raise PortConflict if `count` children cannot have their ports without a clash."""
        owners: dict[int, str] = {}
        for port, owner in self.wanted(count):
            if not 1 <= port <= _LAST_PORT:
                raise PortConflict(
                    f"Port {port} of {owner} with PORT_STEP={self.step} is not between 1 and {_LAST_PORT}; "
                    "choose lower base ports, a smaller PORT_STEP, or a lower MAX_CHILDREN."
                )
            if port in owners:
                raise PortConflict(
                    f"Port {port} is wanted twice: by {owners[port]} and by {owner}; with PORT_STEP="
                    f"{self.step} there is room for {self.capacity()} children. Move the base ports apart."
                )
            owners[port] = owner

    def capacity(self) -> int:
        """Return how many children fit, beside the spares, before a port would be out of range or taken twice."""
        limits = []
        for base, other, more in (
            (self.base_api_port, self.base_stream_port, 0),
            (self.base_stream_port, self.base_api_port, self.spares),
        ):
            limits.append((_LAST_PORT - base) // self.step + 1 - more)
            for taken in (other, self.coordinator_port):
                ahead = taken - base
                if ahead >= 0 and ahead % self.step == 0:
                    limits.append(ahead // self.step - more)
        return max(0, min(limits))


class StreamPorts:
    """The stream ports of a plan, for browsers instead of slots: each takes the lowest that no other one has.

    While each browser with a port has a child that holds a slot, or is a spare, no more ports are taken than there are
    slots in use and spares wanted: `PortPlan.check` and `check_ports_free` have looked at all of them.
    """

    def __init__(self, base: int, step: int = 1) -> None:
        self._base, self._step = base, step
        self._taken: set[int] = set()

    def take(self) -> int:
        """Return the lowest free port, which is the caller's until it is given back."""
        port = next(port for port in itertools.count(self._base, self._step) if port not in self._taken)
        self._taken.add(port)
        return port

    def give_back(self, port: int) -> None:
        """Have this port given to the next one; nobody listens on it any more."""
        self._taken.discard(port)


def check_ports_free(plan: PortPlan, count: int) -> None:
    """Raise PortConflict if a child's port is in use now. The coordinator binds its own port itself."""
    for port, owner in plan.wanted(count):
        if port == plan.coordinator_port:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                cause = {errno.EADDRINUSE: "is in use", errno.EACCES: "needs privileges"}.get(
                    error.errno or 0, f"cannot be bound ({error.strerror})"
                )
                raise PortConflict(
                    f"Port {port} for {owner} {cause}; stop what uses it, or choose another base port."
                ) from None

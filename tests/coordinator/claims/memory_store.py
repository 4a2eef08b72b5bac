"""A store of claims in memory, on a clock that the test turns: for what a real one cannot be made to do on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from coordinator.claims.store import CellTaken, LeaseGone, StoreUnreachable, View


@dataclass
class Lease:
    cell: str
    ttl_s: float
    room: int
    until: float


@dataclass
class Memory:
    """What all cells see. `clock` is the store's, in seconds."""

    clock: Callable[[], float]
    leases: list[Lease] = field(default_factory=list)
    cells: dict[str, Lease] = field(default_factory=dict)
    claims: dict[str, Lease] = field(default_factory=dict)
    fingerprints: dict[str, tuple[str, Lease]] = field(default_factory=dict)
    number: int = 0
    values: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def expire(self) -> None:
        gone = [lease for lease in self.leases if lease.until <= self.clock()]
        for lease in gone:
            self.end(lease)

    def end(self, lease: Lease) -> None:
        if lease in self.leases:
            self.leases.remove(lease)
        self.cells = {cell: by for cell, by in self.cells.items() if by is not lease}
        self.claims = {login: by for login, by in self.claims.items() if by is not lease}
        self.fingerprints = {key: value for key, value in self.fingerprints.items() if value[1] is not lease}


class MemoryStore:
    """One cell's connection to a `Memory`; with `away` set, it reaches nothing."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.lease: Lease | None = None
        self.away = False

    def _reach(self) -> None:
        if self.away:
            raise StoreUnreachable("the store in memory is away")
        self.memory.expire()

    def _held(self) -> Lease:
        self._reach()
        if self.lease is None or self.lease not in self.memory.leases:
            raise LeaseGone("the lease is over")
        return self.lease

    async def register(self, cell: str, ttl_s: int, room: int) -> None:
        self._reach()
        if cell in self.memory.cells:
            raise CellTaken(cell)
        self.lease = Lease(cell, ttl_s, room, self.memory.clock() + ttl_s)
        self.memory.leases.append(self.lease)
        self.memory.cells[cell] = self.lease

    async def renew(self) -> None:
        lease = self._held()
        lease.until = self.memory.clock() + lease.ttl_s

    async def view(self) -> View:
        self._reach()
        holders = {login: lease.cell for login, lease in self.memory.claims.items()}
        own = frozenset(login for login, lease in self.memory.claims.items() if lease is self.lease)
        rooms = {cell: lease.room for cell, lease in self.memory.cells.items()}
        return View(rooms, holders, own)

    async def claim(self, login: str, fingerprint: str | None) -> int | None:
        lease = self._held()
        if login in self.memory.claims or fingerprint in self.memory.fingerprints:
            return None
        self.memory.number += 1
        self.memory.claims[login] = lease
        if fingerprint is not None:
            self.memory.fingerprints[fingerprint] = login, lease
        return self.memory.number

    async def release(self, login: str) -> None:
        self._reach()
        if self.memory.claims.get(login) is self.lease:
            del self.memory.claims[login]
            self.memory.fingerprints = {
                key: value for key, value in self.memory.fingerprints.items() if value[0] != login
            }

    async def leave(self) -> None:
        self._reach()
        self.memory.cells = {cell: by for cell, by in self.memory.cells.items() if by is not self.lease}

    async def revoke(self) -> None:
        self._reach()
        if self.lease is not None:
            self.memory.end(self.lease)
        self.lease = None

    async def read(self, kind: str, login: str) -> bytes | None:
        self._reach()
        return self.memory.values.get((kind, login))

    async def write(self, kind: str, login: str, data: bytes | None) -> None:
        lease = self._held()
        if self.memory.claims.get(login) is not lease:
            raise LeaseGone(f"{login} is not ours")
        if data is None:
            self.memory.values.pop((kind, login), None)
        else:
            self.memory.values[kind, login] = data

    async def close(self) -> None:
        pass

"""A store of claims in memory, on a clock that the test turns: for what a real one cannot be made to do on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from coordinator.claims.shared import SharedSettings
from coordinator.claims.store import CellTaken, LeaseGone, StoreNew, StoreUnreachable, View, require_alike


@dataclass(eq=False)
class Lease:
    cell: str
    shared: SharedSettings
    room: int
    until: float


@dataclass(frozen=True)
class Claim:
    lease: Lease
    number: int
    fingerprint: str | None


@dataclass
class Memory:
    """What all cells see. `clock` is the store's, in seconds."""

    clock: Callable[[], float]
    leases: list[Lease] = field(default_factory=list)
    cells: dict[str, Lease] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    number: int = 0
    values: dict[tuple[str, str], bytes] = field(default_factory=dict)
    old_at: float | None = 0.0
    """From when on it gives leases; None: it is empty, and nobody has seen that yet."""

    def lose_all(self) -> None:
        self.leases, self.cells, self.claims, self.values = [], {}, {}, {}
        self.old_at = None

    def expire(self) -> None:
        gone = [lease for lease in self.leases if lease.until <= self.clock()]
        for lease in gone:
            self.end(lease)

    def end(self, lease: Lease) -> None:
        if lease in self.leases:
            self.leases.remove(lease)
        self.cells = {cell: by for cell, by in self.cells.items() if by is not lease}
        self.claims = {login: claim for login, claim in self.claims.items() if claim.lease is not lease}

    def release(self, login: str, lease: Lease) -> None:
        if self.has(login, lease):
            del self.claims[login]

    def has(self, login: str, lease: Lease) -> bool:
        claim = self.claims.get(login)
        return claim is not None and claim.lease is lease


class MemoryStore:
    """One cell's connection to a `Memory`.

    With `away` set, it reaches nothing; with `loses_answers`, what is asked is done, and the cell does not hear of it.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.lease: Lease | None = None
        self.away = False
        self.loses_answers = False

    def _reach(self) -> None:
        if self.away:
            raise StoreUnreachable("the store in memory is away")
        self.memory.expire()

    def _answer(self) -> None:
        if self.loses_answers:
            raise StoreUnreachable("the answer of the store in memory is lost")

    def _held(self) -> Lease:
        self._reach()
        if self.lease is None or self.lease not in self.memory.leases:
            raise LeaseGone("the lease is over")
        return self.lease

    async def register(self, cell: str, shared: SharedSettings, room: int) -> None:
        self._reach()
        now, ttl_s = self.memory.clock(), shared.ttl_s
        if self.memory.old_at is None:
            self.memory.old_at = now + ttl_s
        if now < self.memory.old_at:
            self._answer()
            raise StoreNew("the store in memory was empty")
        if any(lease.cell == cell for lease in self.memory.leases):
            self._answer()
            raise CellTaken(cell)
        require_alike(shared, {lease.cell: lease.shared for lease in self.memory.leases})
        lease = Lease(cell, shared, room, self.memory.clock() + ttl_s)
        self.memory.leases.append(lease)
        self.memory.cells[cell] = lease
        self._answer()
        self.lease = lease

    async def renew(self) -> None:
        lease = self._held()
        lease.until = self.memory.clock() + lease.shared.ttl_s
        self._answer()

    async def view(self) -> View:
        self._reach()
        self._answer()
        holders = {login: claim.lease.cell for login, claim in self.memory.claims.items()}
        own = frozenset(login for login, claim in self.memory.claims.items() if claim.lease is self.lease)
        rooms = {cell: lease.room for cell, lease in self.memory.cells.items()}
        return View(rooms, holders, own)

    async def claim(self, login: str, fingerprint: str | None) -> int | None:
        lease = self._held()
        if (claim := self.memory.claims.get(login)) and claim.lease is lease and claim.fingerprint == fingerprint:
            self._answer()
            return claim.number
        self.memory.release(login, lease)
        doubled = any(claim.fingerprint == fingerprint for claim in self.memory.claims.values())
        number = None
        if login not in self.memory.claims and (fingerprint is None or not doubled):
            self.memory.number += 1
            number = self.memory.number
            self.memory.claims[login] = Claim(lease, number, fingerprint)
        self._answer()
        return number

    async def release(self, login: str) -> None:
        self._reach()
        if self.lease is not None:
            self.memory.release(login, self.lease)
        self._answer()

    async def leave(self) -> None:
        self._reach()
        self.memory.cells = {cell: by for cell, by in self.memory.cells.items() if by is not self.lease}
        self._answer()

    async def rejoin(self) -> None:
        self._reach()
        if self.lease is not None and self.lease in self.memory.leases:
            self.memory.cells[self.lease.cell] = self.lease
        self._answer()

    async def revoke(self) -> None:
        self._reach()
        if self.lease is not None:
            self.memory.end(self.lease)
        self._answer()
        self.lease = None

    async def read(self, kind: str, login: str) -> bytes | None:
        self._reach()
        self._answer()
        return self.memory.values.get((kind, login))

    async def write(self, kind: str, login: str, data: bytes | None) -> None:
        lease = self._held()
        if not self.memory.has(login, lease):
            self._answer()
            raise LeaseGone(f"{login} is not ours")
        if data is None:
            self.memory.values.pop((kind, login), None)
        else:
            self.memory.values[kind, login] = data
        self._answer()

    async def close(self) -> None:
        pass

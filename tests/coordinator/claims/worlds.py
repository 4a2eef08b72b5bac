"""Stores of claims for tests, each kind as one world in which cells meet."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from typing import Protocol

from coordinator.claims import etcd_api
from coordinator.claims.etcd import EtcdClaims
from coordinator.claims.shared import SharedSettings
from coordinator.claims.store import ClaimStore
from tests.coordinator.claims.link import Link, link
from tests.coordinator.claims.memory_store import Memory, MemoryStore
from tests.support.etcd import Etcd
from tests.support.waiting import HANG_LIMIT_S

TTL_S = 2
"""The shortest lease that etcd grants, by its usual times of elections."""
LONG_TTL_S = 60
"""A lease that no test outlives."""

_NUMBERS = itertools.count()


class World(Protocol):
    """One store, empty at first, and the cells that use it."""

    async def connect(self) -> ClaimStore:
        """Return a further cell's connection."""

    async def registered(self, cell: str, ttl_s: int = LONG_TTL_S) -> ClaimStore:
        """Return the connection of a cell that is registered, with room for 5 logins."""

    async def expiry(self, cell: str, seen_by: ClaimStore) -> None:
        """Wait until this cell's lease is over; `seen_by` is a connection that looks."""

    async def lose_all(self, seen_by: ClaimStore) -> None:
        """Have the store lose all that it holds; `seen_by` is a connection to it."""

    async def pass_time(self) -> None:
        """Let some of the store's time pass."""

    def lose_answers(self, store: ClaimStore, *, lost: bool) -> None:
        """Have what this cell asks be done without its hearing of it, or end that."""


class MemoryWorld:
    """Its time passes only when a test waits."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._memory = Memory(lambda: self._now_s)

    async def connect(self) -> MemoryStore:
        return MemoryStore(self._memory)

    async def registered(self, cell: str, ttl_s: int = LONG_TTL_S) -> MemoryStore:
        store = await self.connect()
        await store.register(cell, SharedSettings(ttl_s), 5)
        return store

    async def expiry(self, cell: str, seen_by: ClaimStore) -> None:
        while cell in (await seen_by.view()).cells:
            await self.pass_time()

    async def lose_all(self, seen_by: ClaimStore) -> None:
        self._memory.lose_all()

    async def pass_time(self) -> None:
        self._now_s += TTL_S / 40
        await asyncio.sleep(0.005)

    def lose_answers(self, store: ClaimStore, *, lost: bool) -> None:
        assert isinstance(store, MemoryStore)
        store.loses_answers = lost


class EtcdWorld:
    """A prefix of its own in a running etcd; each cell has a link of its own to it. `stack` closes them."""

    def __init__(self, etcd: Etcd, stack: contextlib.AsyncExitStack) -> None:
        self._etcd, self._stack = etcd, stack
        self._links: dict[ClaimStore, Link] = {}
        self.prefix = f"/test/{next(_NUMBERS)}"

    async def connect(self) -> EtcdClaims:
        way = await self._stack.enter_async_context(link(self._etcd.members[0].address))
        store = EtcdClaims([way.url], timeout_s=HANG_LIMIT_S, prefix=self.prefix)
        if not self._links:
            await make_known(store)
        self._stack.push_async_callback(store.close)
        self._links[store] = way
        return store

    async def registered(self, cell: str, ttl_s: int = LONG_TTL_S) -> EtcdClaims:
        store = await self.connect()
        await store.register(cell, SharedSettings(ttl_s), 5)
        return store

    async def expiry(self, cell: str, seen_by: ClaimStore) -> None:
        async with asyncio.timeout(HANG_LIMIT_S):
            while cell in (await seen_by.view()).cells:
                await self.pass_time()

    async def lose_all(self, seen_by: ClaimStore) -> None:
        assert isinstance(seen_by, EtcdClaims)
        prefix = f"{self.prefix}/".encode()
        everything = {"request_delete_range": {"key": prefix, "range_end": prefix[:-1] + b"0"}}
        await etcd_api.txn(seen_by._gateway.call(), [], [everything])

    async def pass_time(self) -> None:
        await asyncio.sleep(0.05)

    def lose_answers(self, store: ClaimStore, *, lost: bool) -> None:
        self._links[store].losses = sys.maxsize if lost else 0


async def make_known(store: EtcdClaims) -> None:
    """Have the store give leases at once: it cannot have lost anything."""
    await etcd_api.txn(store._gateway.call(), [], [etcd_api.put(store._key("store", "known"), b"{}")])

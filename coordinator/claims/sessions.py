"""Saved sessions go with the claim: from the last holder to the next, by the session store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from coordinator.claims.store import ClaimStore, StoreUnreachable
from coordinator.daemon_thread import in_daemon_thread
from coordinator.profiles.errors import ObjectGone
from coordinator.profiles.s3_types import Fetched
from coordinator.sessions import Sessions

SESSION: Final = "session"
"""The kind of what stands in the store of claims about a login besides its claim: its saved session, encrypted."""
_TIMEOUT_S: Final = 10.0
_LOOK_S: Final = 5.0
"""How often it is tried whether sessions can be kept here."""
T = TypeVar("T")


class SessionHandover:
    """Fetches a login's session when it is claimed, and stores it before the claim is given back."""

    def __init__(self, sessions: Sessions) -> None:
        """`sessions` keeps those of claimed logins only."""
        self._sessions = sessions
        self._unusable: str | None = None
        self._look_at = 0.0

    async def unusable(self) -> str | None:
        """Return why no session can be kept here, as it was _LOOK_S seconds ago at most."""
        now = time.monotonic()
        if now >= self._look_at:
            self._unusable = await in_daemon_thread(self._sessions.unusable)
            self._look_at = now + _LOOK_S
        return self._unusable

    async def take(self, login: str, claim: int) -> bool:
        """Fetch what the last holder has left; False if it cannot be told whether that is the newest."""
        return await in_daemon_thread(lambda: self._sessions.take(login, claim))

    async def leave(self, login: str) -> bool:
        """Store the session for the next holder; return whether it is stored."""
        return await in_daemon_thread(lambda: self._sessions.leave(login))

    def forget(self, login: str) -> None:
        """Keep the session no more: the login is not ours."""
        self._sessions.forget(login)


class SessionsInClaims:
    """`SharedSessions` in the store of claims, for threads: written only by the holder of the login's claim."""

    def __init__(self, store: ClaimStore, loop: asyncio.AbstractEventLoop) -> None:
        """`loop` is the one that the store is used in."""
        self._store, self._loop = store, loop

    def read(self, login: str) -> Fetched:
        """Return the copy of a login's session. Raises ObjectGone, ClaimStoreError."""
        data = self._wait(self._store.read(SESSION, login))
        if data is None:
            raise ObjectGone(login)
        return Fetched(data)

    def write(self, login: str, data: bytes, *, replaces: str | None) -> str:  # noqa: ARG002 - the claim says enough
        """Put a copy. Raises LeaseGone where the login is not ours by now, ClaimStoreError."""
        self._wait(self._store.write(SESSION, login, data))
        return ""

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result(_TIMEOUT_S)
        except TimeoutError:
            future.cancel()
            raise StoreUnreachable("the store of claims did not answer in time") from None

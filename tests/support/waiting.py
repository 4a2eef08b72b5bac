"""Waiting for something to become true, never for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

# How long a test waits for what should come at once. A machine with other work on it takes seconds for what is done in
# milliseconds on an idle one, so this tells only what comes from what never does.
HANG_LIMIT_S: Final = 30.0


async def eventually(look: Callable[[], T], *, timeout_s: float = HANG_LIMIT_S, what: object = None) -> T:
    """Look again until something true is seen, and return it; fail after timeout_s seconds.

    `what` (or what it returns, if it can be called) tells in the failure what was there instead.
    """
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > deadline:
            found = what() if callable(what) else what
            raise AssertionError(f"not within {timeout_s:g} s: {look!r}; last seen: {seen!r}; {found}")
        await asyncio.sleep(0.005)
    return seen


async def eventually_async(look: Callable[[], Awaitable[T]], *, timeout_s: float = HANG_LIMIT_S) -> T:
    """As `eventually`, where looking takes a while."""
    deadline = time.monotonic() + timeout_s
    while not (seen := await look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {look!r}; last seen: {seen!r}")
        await asyncio.sleep(0.02)
    return seen

"""Waiting for something to become true, never for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

LOOK_AGAIN_S: Final = (0.005, 0.025)
"""How soon something is looked at again at first, and after half a second. What is looked at often costs what is waited
for its time.
"""

# How long a test waits for what should come at once. A machine with other work on it takes seconds for what is done in
# milliseconds on an idle one, so this tells only what comes from what never does.
HANG_LIMIT_S: Final = 30.0


async def eventually(look: Callable[[], T], *, timeout_s: float = HANG_LIMIT_S, what: object = None) -> T:
    """Look again until something true is seen, and return it; fail after timeout_s seconds.

    `what` (or what it returns, if it can be called) tells in the failure what was there instead.
    """
    began = time.monotonic()
    while not (seen := look()):
        waited_s = time.monotonic() - began
        if waited_s > timeout_s:
            found = what() if callable(what) else what
            raise AssertionError(f"not within {timeout_s:g} s: {look!r}; last seen: {seen!r}; {found}")
        await asyncio.sleep(pause_s(waited_s))
    return seen


def pause_s(waited_s: float, longest_s: float = LOOK_AGAIN_S[1]) -> float:
    """Return how long to wait before the next look, after so long a wait."""
    return min(max(LOOK_AGAIN_S[0], 0.05 * waited_s), longest_s)


async def eventually_async(look: Callable[[], Awaitable[T | None]], *, timeout_s: float = HANG_LIMIT_S) -> T:
    """As `eventually`, where looking takes a while."""
    deadline = time.monotonic() + timeout_s
    while not (seen := await look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {look!r}; last seen: {seen!r}")
        await asyncio.sleep(0.02)
    return seen

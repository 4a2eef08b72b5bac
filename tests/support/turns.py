"""Whether others get their turn of the event loop while something long is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def each_turn(action: Callable[[], object]) -> AsyncIterator[None]:
    """Call the action at each turn of the loop while the context lasts."""

    async def act() -> None:
        while True:
            action()
            await asyncio.sleep(0)

    task = asyncio.create_task(act())
    try:
        yield
    finally:
        task.cancel()

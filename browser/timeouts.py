"""Waiting that ends when it should, and work that comes to its end although nobody waits any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_abandoned: set[asyncio.Task[Any]] = set()


async def within(timeout_s: float, work: Coroutine[Any, Any, T], name: str) -> T:
    """Return what the work returns. Raises TimeoutError after timeout_s seconds, whatever the work then does.

    Unlike asyncio's own timeouts this does not wait for the work to take note: a cancelled call of
    Playwright first waits for an answer of its driver, which may be what is stuck.
    """
    task = asyncio.create_task(work, name=name)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    finally:
        if not task.done():
            _abandon(task)
    if not done:
        raise TimeoutError
    return task.result()


def _abandon(task: asyncio.Task[Any]) -> None:
    task.cancel()
    _abandoned.add(task)
    task.add_done_callback(_forget)


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # or the loop complains that nobody looked at it


async def finish(work: Coroutine[Any, Any, None], name: str) -> None:
    """Run the work to its end as a task of its own; a cancellation meanwhile is raised only then."""
    task = asyncio.create_task(work, name=name)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()

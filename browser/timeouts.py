"""Hard timeouts and cancellation shielding for Playwright calls."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

# The event loop holds only weak references to tasks: one that was left behind must be kept until it is done.
_running: set[asyncio.Task[Any]] = set()


async def within(timeout_s: float, work: Coroutine[Any, Any, T], name: str) -> T:
    """Return the work's result. Raises TimeoutError after timeout_s seconds, whatever the work does then.

    Use it for every call of Playwright that may hang. asyncio.timeout and anyio's cancel scopes cancel the call and
    then wait for it to return; a cancelled call of Playwright first waits for an answer of its driver, which may be
    what hangs. Here the cancelled work is left behind.
    """
    task = asyncio.create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_forget)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    finally:
        task.cancel()  # without effect on one that is done
    if not done:
        raise TimeoutError
    return task.result()


async def leave_after(timeout_s: float, work: Coroutine[Any, Any, T], name: str) -> T:
    """Return the work's result. Raises TimeoutError after timeout_s seconds; the work then goes on.

    It goes on as well where the caller is cancelled. Use it for closing a context: a close that is cancelled before it
    was sent counts as done, and is never sent.
    """
    task = asyncio.create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_forget)
    done, _ = await asyncio.wait({task}, timeout=timeout_s)
    if not done:
        raise TimeoutError
    return task.result()


def _forget(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # otherwise the event loop logs that nobody retrieved it, where the caller was cancelled


async def finish(work: Coroutine[Any, Any, None], name: str) -> None:
    """Run the work to its end in a task of its own; raise a cancellation of the caller only then.

    anyio's CancelScope(shield=True) is no replacement: it shields from anyio's own cancel scopes, not from
    Task.cancel(), by which requests are cancelled here.
    """
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

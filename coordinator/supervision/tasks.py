"""Named tasks whose failures are reported."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from coordinator.errors import SupervisorFailed

log = structlog.get_logger(__name__)


class Tasks:
    """A set of tasks. The first that ends with an error makes `failed` fail with SupervisorFailed.

    Make it inside a running loop. Siblings go on; whoever awaits `failed` decides.
    """

    def __init__(self) -> None:
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run the coroutine in a task of this name, which the log and SupervisorFailed show if it fails."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(task.get_name(), error)

    def fail(self, what: str, error: BaseException) -> None:
        """Report that something which keeps the fleet alive broke."""
        log.error("supervision_failed", task=what, exc_info=error)
        if not self.failed.done():
            failure = SupervisorFailed(f"Supervision broke in {what} ({type(error).__name__}); see the log.")
            failure.__cause__ = error
            self.failed.set_exception(failure)
            self.failed.exception()  # a failure that nobody awaits has been logged above

    async def cancel_all(self) -> None:
        """Cancel what still runs, the caller excepted, and wait until it has ended."""
        running = self._running - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

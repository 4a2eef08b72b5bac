"""Ending the work of a request from outside, for a named cause, without losing what follows it."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Cause(StrEnum):
    """Why the forwarding of a request was ended before its answer was complete."""

    CLIENT_LEFT = "client_left"
    CLIENT_STALLED = "client_stalled"
    NO_HEAD = "first_token_timeout"
    SILENT = "stream_idle_timeout"
    SHUTDOWN = "shutdown"


class Interruptible:
    """A region of one task's work that `interrupt` ends, as asyncio.timeout ends it by the clock.

    The first cause stays. An interrupt outside the region only sets `cause`, so that the clean-up between
    two regions is never cut short: look at it before entering.
    """

    def __init__(self) -> None:
        self.cause: Cause | None = None
        self._task: asyncio.Task[object] | None = None
        self._cancelled = False
        self._before = 0

    def interrupt(self, cause: Cause) -> None:
        """End the region; later calls do nothing. Never called from within the region itself."""
        if self.cause is None:
            self.cause = cause
            if self._task is not None:
                self._cancelled = True
                self._task.cancel()

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        if self._task is None:
            raise RuntimeError("an interruptible region needs a task")
        self._before = self._task.cancelling()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        if task is None or not self._cancelled:
            return False
        self._cancelled = False
        # Somebody else's cancellation on top of ours must go on.
        return task.uncancel() <= self._before and kind is asyncio.CancelledError


class StallWatch:
    """Ends a region when nothing moves for too long.

    The timer is not set anew for each chunk: it looks, when it is due, how long ago the last one was.
    """

    def __init__(self, region: Interruptible, blocked: Callable[[], bool], *, client_s: float) -> None:
        self._region = region
        self._blocked = blocked
        self._client_s = client_s
        self._limit_s = client_s
        self._cause = Cause.SILENT
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.moved_at = self._loop.time()

    def expect(self, limit_s: float, cause: Cause) -> None:
        """From now on, nothing from the child for limit_s seconds is this cause."""
        self.stop()
        self._limit_s, self._cause = limit_s, cause
        self.moved_at = self._loop.time()
        self._timer = self._loop.call_at(self.moved_at + limit_s, self._look)

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        blocked = self._blocked()
        due = self.moved_at + (self._client_s if blocked else self._limit_s)
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._region.interrupt(Cause.CLIENT_STALLED if blocked else self._cause)

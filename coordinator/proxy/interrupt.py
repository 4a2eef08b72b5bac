"""Ending the work on a request before its answer is complete: for which cause, and when nothing moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum

from anyio import CancelScope


class Cause(StrEnum):
    """Why the forwarding of a request was interrupted. Those that the client is told are error codes."""

    CLIENT_LEFT = "client_left"
    CLIENT_STALLED = "client_stalled"
    NO_HEAD = "first_token_timeout"
    SILENT = "stream_idle_timeout"
    SHUTDOWN = "shutdown"


class Interruption:
    """Cancels what runs within `scope`, for the first cause that is given; what is shielded there runs on.

    An object of its own, and no part of Exchange: else StallWatch and Exchange would refer to each other. Such cycles
    wait for the garbage collector, which costs more than anything else here (100 us a request).
    """

    def __init__(self) -> None:
        self.scope = CancelScope()
        self.cause: Cause | None = None

    def interrupt(self, cause: Cause) -> None:
        """Cancel the scope for this cause; later calls do nothing."""
        if self.cause is None:
            self.cause = cause
            self.scope.cancel()


class StallWatch:
    """Calls `interrupt` when nothing comes from the child for too long; on leaving its `with` block it stops.

    Whoever waits for the child sets `moved_at` to the loop's time of each beginning. `held_up` tells whether the
    client is waited for instead, which is the connection's business.
    """

    def __init__(self, interrupt: Callable[[Cause], None], held_up: Callable[[], bool]) -> None:
        self._interrupt = interrupt
        self._held_up = held_up
        self._limit_s = 0.0
        self._cause = Cause.SILENT
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.moved_at = self._loop.time()

    def expect(self, limit_s: float, cause: Cause) -> None:
        """From now on, interrupt for this cause when nothing comes from the child for limit_s seconds."""
        self.stop()
        self._limit_s, self._cause = limit_s, cause
        self.moved_at = self._loop.time()
        self._timer = self._loop.call_at(self.moved_at + limit_s, self._look)

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        """Watch nothing before `expect` is called."""

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _look(self) -> None:
        # Setting the timer anew for each chunk would cost more than the chunk: it looks back when it is due.
        if self._held_up():
            self.moved_at = self._loop.time()
        due = self.moved_at + self._limit_s
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        else:
            self._interrupt(self._cause)

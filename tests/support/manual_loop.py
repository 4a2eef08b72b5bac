"""An event loop whose clock stands still until a test moves it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class ManualLoop(asyncio.SelectorEventLoop):
    """Timers run when `now` has been moved to them; nothing ever waits for real time."""

    now = 0.0
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def time(self) -> float:
        return self.now

    def turn(self) -> None:
        """Let everything run that can, with the clock standing still."""
        while True:
            self.call_soon(self.stop)
            self.run_forever()
            if not self._ready and not self._is_due():
                return

    def advance(self, seconds: float) -> None:
        """Move the clock from timer to timer, and let what is due run at each."""
        end = self.now + seconds
        while self._scheduled and self._scheduled[0].when() <= end:
            self.now = max(self.now, self._scheduled[0].when())
            self.turn()
        self.now = end
        self.turn()

    def _is_due(self) -> bool:
        return bool(self._scheduled) and self._scheduled[0].when() <= self.now

    def call(self, action: Callable[..., T], *args: object, **more: object) -> T:
        """Call a plain function inside the loop, and do not let anything else run before it is over."""

        async def act() -> T:
            return action(*args, **more)

        return self.run_until_complete(act())

"""The news that a browser, or the driver that speaks to it, is lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal

Loss = Literal["browser_lost", "driver_lost"]
LOSS_SHOWS_AFTER_S = 0.5


class LossNotice:
    """Is given once, and can be waited for. Make it inside a running loop."""

    def __init__(self) -> None:
        self.loss: Loss | None = None
        """Which of the two is lost; None as long as neither is."""
        self._given = asyncio.Event()

    def give(self, loss: Loss) -> bool:
        """Say what is lost; return whether nothing was before."""
        is_first = self.loss is None
        self.loss = self.loss or loss
        self._given.set()
        return is_first

    async def wait(self) -> Loss:
        """Return as soon as something is lost, with what it is."""
        await self._given.wait()
        return self.loss or "browser_lost"

    async def comes_soon(self) -> bool:
        """Return whether something is lost, or is found to be within 0.5 s.

        Playwright's calls may fail a moment before the death is noticed that makes them fail.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), LOSS_SHOWS_AFTER_S)
        return self.loss is not None

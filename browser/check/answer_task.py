"""Reading an answer in the background, while the steps of a check wait for its parts."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from browser.errors import LoginExpired, PageHung
from browser.page.completion import Completion
from browser.page.tab import Tab

LOOK_INTERVAL_S = 0.25


class AnswerTask:
    """Reads an answer, and looks at the page meanwhile as a child's monitor does."""

    def __init__(self, tab: Tab, completion: Completion) -> None:
        self.completion = completion
        self.text = ""
        self.reasoning = ""
        self.first = asyncio.Event()
        self.shown_error: str | None = None
        self.error_shown = asyncio.Event()
        self._tab = tab
        self.task = asyncio.create_task(self._read(), name="check-answer")
        self._watch = asyncio.create_task(self._look(), name="check-look")

    async def _read(self) -> None:
        async for piece in self.completion.read():
            if isinstance(piece, str):
                self.text += piece
                self.first.set()
            else:
                self.reasoning += piece.text

    async def _look(self) -> None:
        while True:
            with suppress(PageHung):
                look = await self._tab.look()
                if look and look.logged_out and not look.logged_in:
                    self.completion.interrupt(LoginExpired("the site shows its login page"))
                elif look and look.error is not None:
                    self.shown_error = look.error
                    self.error_shown.set()
                    self.completion.refuse(look.error)
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def begun(self, sign: asyncio.Event | None = None) -> None:
        """Return at the answer's first text, or at another sign of it, or at its end. Raises what ended it."""
        first = asyncio.create_task((sign or self.first).wait(), name="check-first-text")
        await asyncio.wait({first, self.task}, return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        if self.task.done():
            self.task.result()

    async def close(self) -> None:
        """Stop reading; the answer goes on on the page."""
        for task in (self.task, self._watch):
            task.cancel()
        await asyncio.gather(self.task, self._watch, return_exceptions=True)
        await self.completion.end()

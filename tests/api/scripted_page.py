"""A page that does what a test says: for faults that a real page produces only by luck."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from browser.errors import BrowserError
from browser.page.chat_page import ChatPage, EnoughRead
from browser.page.images import Image, ImageLimits
from browser.page.page_status import StatusSnapshot
from contract.child_api import UnreadyReason

READY = StatusSnapshot(ready=True, reason=None, detail=None, capture="network", login_expires_at=None, rest_s=None)


def unready(reason: str) -> StatusSnapshot:
    return dataclasses.replace(READY, ready=False, reason=UnreadyReason(reason), capture=None)


@dataclass
class ScriptedPage(ChatPage):
    """Yields `pieces`; then raises `failure`, waits for ever, or ends."""

    pieces: Sequence[str] = ("Hel", "lo")
    failure: Exception | None = None
    hold_before: asyncio.Event | None = None
    submits: bool = True
    pause_s: float = 0.0  # before each piece
    stalls: bool = False
    slow_reset: asyncio.Event | None = None
    state: StatusSnapshot = READY
    picture: bytes | BrowserError = b"a picture"
    prompts: list[tuple[str, str, str]] = field(default_factory=list)
    images: list[tuple[Image, ...]] = field(default_factory=list)
    limits: ImageLimits | None = None
    marked: set[str] = field(default_factory=set)
    resets: int = 0
    stopped: int = 0
    closes: int = 0
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    exclusive: asyncio.Lock = field(default_factory=asyncio.Lock)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> StatusSnapshot:
        return self.state

    @property
    def busy(self) -> bool:
        return False

    @property
    def models(self) -> tuple[str, ...]:
        return ("demo-small", "demo/large")

    def was_submitted(self, request_id: str) -> bool:
        return request_id in self.marked

    @property
    def image_limits(self) -> ImageLimits | None:
        return self.limits

    async def ask(self, request_id: str, prompt: str, model: str, images: Sequence[Image] = ()) -> AsyncGenerator[str]:
        async with self.exclusive:
            self.prompts.append((request_id, prompt, model))
            self.images.append(tuple(images))
            try:
                if self.submits:
                    self.marked.add(request_id)
                self.begun.set()
                if self.hold_before is not None:
                    await self.hold_before.wait()
                for piece in self.pieces:
                    await asyncio.sleep(self.pause_s)
                    yield piece
                if self.stalls:
                    await asyncio.Event().wait()
                if self.failure is not None:
                    raise self.failure
            except EnoughRead:
                self.stopped += 1
            finally:
                if self.slow_reset is not None:
                    await asyncio.shield(self.slow_reset.wait())
                self.resets += 1

    async def screenshot(self, timeout_s: float = 10.0) -> bytes:
        if isinstance(self.picture, BrowserError):
            raise self.picture
        return self.picture

    async def start(self) -> None:
        """Nothing to start."""

    async def wait_lost(self) -> Literal["browser_lost", "driver_lost"]:
        await self.lost.wait()
        return "browser_lost"

    async def close(self) -> None:
        self.closes += 1

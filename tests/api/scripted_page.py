"""A page that does what a test says: for faults that a real page produces only by luck."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from browser.capture.findings import Reasoning
from browser.errors import BrowserError, NotStarted
from browser.page.chat_page import ChatPage
from browser.page.conversation import Conversation, EnoughRead
from browser.page.images import Image, ImageLimits
from browser.page.page_status import StatusSnapshot
from browser.page.site_page import SitePage
from browser.site.schema import PromptTexts
from contract.child_api import UnreadyReason

READY = StatusSnapshot(ready=True, reason=None, detail=None, capture="network", login_expires_at=None, rest_s=None)


def unready(reason: str) -> StatusSnapshot:
    return dataclasses.replace(READY, ready=False, reason=UnreadyReason(reason), capture=None)


@dataclass
class ScriptedPage(ChatPage):
    """Yields `pieces`; then raises `failure`, waits for ever, or ends. Repairs get `later`, then `pieces` again."""

    pieces: Sequence[str | Reasoning] = ("Hel", "lo")
    later: Sequence[Sequence[str | Reasoning]] = ()
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
    is_abandoned: bool = False
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

    @property
    def site_page(self) -> SitePage:
        raise NotStarted("the page is not up")

    def was_submitted(self, request_id: str) -> bool:
        return request_id in self.marked

    @property
    def prompt_texts(self) -> PromptTexts:
        return PromptTexts()

    @property
    def image_limits(self) -> ImageLimits | None:
        return self.limits

    def converse(self, request_id: str, model: str) -> Conversation:
        return ScriptedConversation(self, request_id, model)

    async def screenshot(self, timeout_s: float = 10.0) -> bytes:
        if isinstance(self.picture, BrowserError):
            raise self.picture
        return self.picture

    async def start(self) -> None:
        """Nothing to start."""

    async def wake(self) -> None:
        """Never asleep."""

    async def wait_lost(self) -> Literal["browser_lost", "driver_lost"]:
        await self.lost.wait()
        return "browser_lost"

    async def close(self) -> None:
        self.closes += 1


class ScriptedConversation(Conversation):
    def __init__(self, page: ScriptedPage, request_id: str, model: str) -> None:
        self._page = page
        self._request_id = request_id
        self._name = model
        self._answers = iter([page.pieces, *page.later])

    async def __aenter__(self) -> Self:
        await self._page.exclusive.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._page.slow_reset is not None:
                await asyncio.shield(self._page.slow_reset.wait())
        finally:
            self._page.resets += 1
            self._page.exclusive.release()

    async def ask(self, prompt: str, images: Sequence[Image] = ()) -> AsyncGenerator[str | Reasoning]:
        page = self._page
        page.prompts.append((self._request_id, prompt, self._name))
        page.images.append(tuple(images))
        try:
            if page.submits:
                page.marked.add(self._request_id)
            page.begun.set()
            if page.hold_before is not None:
                await page.hold_before.wait()
            for piece in next(self._answers, page.pieces):
                await asyncio.sleep(page.pause_s)
                yield piece
            if page.stalls:
                await asyncio.Event().wait()
            if page.failure is not None:
                raise page.failure
        except EnoughRead:
            page.stopped += 1

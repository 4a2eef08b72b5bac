"""One prompt and its answer."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from browser.capture.answer import Answer
from browser.capture.capture import Capture
from browser.capture.findings import Done, Finding, LoggedOut, Progress, Refused, Text
from browser.errors import BrowserError, FirstTokenTimeout, LoginExpired, PageBroken, SiteFailed, StreamIdleTimeout
from browser.page.images import Image
from browser.page.prompt_entry import enter_prompt
from browser.page.refusals import error_of
from browser.page.tab import Tab
from browser.page.upload import hand_over
from browser.settings import BrowserSettings
from browser.site.schema import Model, Site
from browser.timeouts import within

ENTRY_TIMEOUT_S = 90.0


class Turn:
    """Enters a prompt on an empty conversation, sends it, and yields the answer."""

    def __init__(
        self, *, tab: Tab, capture: Capture, settings: BrowserSettings, mark_submitted: Callable[[], None]
    ) -> None:
        self._tab = tab
        self._capture = capture
        self._settings = settings
        self._mark_submitted = mark_submitted
        self._answer: Answer | None = None
        self._interruption: BrowserError | None = None
        self.submitted = False
        self.complete = False
        self.over = False
        self.had_images = False

    @property
    def _site(self) -> Site:
        return self._tab.site

    async def pieces(self, prompt: str, model: Model, images: Sequence[Image] = ()) -> AsyncGenerator[str, None]:
        """Yield the answer's text in order; the end of it is the end of the answer. Raises BrowserError."""
        await self.choose(model)
        await self.enter(prompt)  # before the images: to fill an editor is to replace what is in it
        if images:
            self.had_images = True
            await hand_over(self._tab, images)
        await self.send()
        async for piece in self.read():
            yield piece

    async def choose(self, model: Model) -> None:
        """Choose the model on an empty conversation. Raises PageBroken."""
        await self._tab.run(model.choose, model=model.name)

    async def enter(self, prompt: str) -> str:
        """Fill the input and return the method that did it. Raises PageBroken, PromptRejected."""
        entering = enter_prompt(self._tab.page, self._site.input, prompt)
        try:
            return await within(ENTRY_TIMEOUT_S, entering, "prompt-entry")
        except TimeoutError:
            raise PageBroken(f"entering the prompt took more than {ENTRY_TIMEOUT_S:g} s") from None

    async def send(self) -> None:
        """Send what the input holds, once all is ready to catch its answer. Raises CaptureGap, PageBroken."""
        self._answer = await self._capture.begin(self._tab.page)
        self._check_interruption()
        self._mark_submitted()
        self.submitted = True
        await self._tab.run(self._site.send.actions)

    async def read(self) -> AsyncGenerator[str, None]:
        """Yield the text of the answer to what was sent. Raises BrowserError."""
        answer = self._answer
        if answer is None:
            raise RuntimeError("nothing was sent")
        loop = asyncio.get_running_loop()
        has_begun = False
        progress = loop.time()
        while not self.complete:
            limit_s = self._limit_s(has_begun=has_begun)
            for finding in await self._next(answer, progress + limit_s, has_begun=has_begun):
                if isinstance(finding, (Text, Progress)):
                    if isinstance(finding, Text):
                        yield finding.text
                    has_begun, progress = True, loop.time()
                else:
                    self._conclude(finding)
                    break

    def _limit_s(self, *, has_begun: bool) -> float:
        return self._settings.stream_idle_timeout_s if has_begun else self._settings.first_token_timeout_s

    async def _next(self, answer: Answer, deadline: float, *, has_begun: bool) -> list[Finding]:
        try:
            async with asyncio.timeout_at(deadline):
                return await answer.next()
        except TimeoutError:
            pass
        limit_s = self._limit_s(has_begun=has_begun)
        if has_begun:
            raise StreamIdleTimeout(f"the answer stood still for {limit_s:g} s", submitted=True)
        raise FirstTokenTimeout(f"no answer began within {limit_s:g} s", submitted=True)

    def _conclude(self, finding: Finding) -> None:
        """Take the finding that ends the answer. Raises what a refusal or a break comes to."""
        self.over = True
        if isinstance(finding, Done):
            self.complete = True
            return
        if isinstance(finding, LoggedOut):
            raise LoginExpired("the site told the page that its session is over", submitted=True)
        if isinstance(finding, Refused):
            raise error_of(self._site, finding)
        raise SiteFailed("the site broke off the answer before its end", submitted=True)

    def interrupt(self, error: BrowserError) -> None:
        """End the turn with this error, where it stands waiting."""
        error.submitted = error.submitted or self.submitted
        self._interruption = self._interruption or error
        if self._answer:
            self._answer.interrupt(error)

    def refuse(self, message: str) -> None:
        """End the turn with what the site says on the page."""
        self.interrupt(error_of(self._site, Refused(None, message), submitted=self.submitted))

    def _check_interruption(self) -> None:
        if self._interruption:
            raise self._interruption

    async def end(self) -> None:
        """Stop capturing."""
        if self._answer:
            await self._capture.end(self._answer)

    def abandon(self) -> None:
        """Stop listening to a page that is gone."""
        if self._answer:
            self._capture.release(self._answer)

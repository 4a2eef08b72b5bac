"""One prompt and its answer: choose the model, enter the prompt, upload its images, send it, read the answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress

from browser.capture.answer import Answer
from browser.capture.capture import Capture
from browser.capture.findings import Done, Finding, LoggedOut, Progress, Reasoning, Refused, Text
from browser.capture.frames import TURN_FRAMES
from browser.errors import BrowserError, FirstTokenTimeout, LoginExpired, PageBroken, SiteFailed, StreamIdleTimeout
from browser.page.images import Image
from browser.page.page_input import enter_prompt
from browser.page.refusals import LoginRefusals, error_of
from browser.page.sent_prompt import SentPromptWatch
from browser.page.submission import SubmissionWatch
from browser.page.tab import Tab
from browser.page.upload import upload_images
from browser.settings import BrowserSettings
from browser.site.schema import Model
from browser.timeouts import within

ENTRY_TIMEOUT_S = 90.0
ENDS_SOON_S = 0.5


class Completion:
    """Takes a tab through one prompt and its answer: on an empty conversation, or with `follows` after other answers.

    `mark_submitted` is called at the instant before the prompt is sent; if it raises, nothing is sent.
    `compares_sent`: look at what the page sends even if its site file makes no error of a difference.
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        tab: Tab,
        capture: Capture,
        settings: BrowserSettings,
        mark_submitted: Callable[[], None],
        follows: bool = False,
        compares_sent: bool = False,
    ) -> None:
        self._tab = tab
        self._capture = capture
        self._settings = settings
        self._mark_submitted = mark_submitted
        self._follows = follows
        self._compares_sent = compares_sent
        self._answer: Answer | None = None
        self._unread: deque[Finding] = deque()
        self.interruption: BrowserError | None = None
        """What it was made to fail with from outside, at whatever time."""
        self._login_refusals: LoginRefusals | None = None
        self._watches: list[LoginRefusals | SubmissionWatch | SentPromptWatch] = []
        self._prompt = ""
        self.sent_prompt: SentPromptWatch | None = None
        """What the page made of the prompt, where its site file says where to find that."""
        self.submitted = False
        """Whether the prompt may have reached the site."""
        self.has_text = False
        """Whether any text of the answer, or of its reasoning, has come."""
        self.complete = False
        """Whether the answer was read to its end."""
        self.answer_ended = False
        """Whether the site ended the answer, in whatever way: there is none to stop on the page."""
        self.had_images = False
        """Whether images were given to the page, or began to be."""

    async def stream(
        self, prompt: str, model: Model, images: Sequence[Image] = ()
    ) -> AsyncGenerator[str | Reasoning, None]:
        """Yield the answer's text and reasoning in order; the generator's end is the answer's. Raises BrowserError."""
        if not self._follows:  # a page offers its models on an empty conversation
            await self.choose(model)
        await self.enter(prompt)  # before the images: filling an editor replaces what is in it
        if images:
            self.had_images = True
            await upload_images(self._tab, images)
        await self.send()
        async for piece in self.read():
            yield piece
        if self.sent_prompt and self.sent_prompt.verifies:
            await self.sent_prompt.settled()  # a short answer is over before the browser has told of its request
            if self.sent_prompt.error:
                raise self.sent_prompt.error

    async def choose(self, model: Model) -> None:
        """Choose the model on an empty conversation. Raises PageBroken."""
        await self._tab.run(model.choose, model=model.name)

    async def enter(self, prompt: str) -> str:
        """Fill the input and return the method that did it. Raises PageBroken, PromptRejected."""
        self._prompt = prompt
        entering = enter_prompt(self._tab.page, self._tab.site.input, prompt)
        try:
            return await within(ENTRY_TIMEOUT_S, entering, "prompt-entry")
        except TimeoutError:
            raise PageBroken(f"entering the prompt took more than {ENTRY_TIMEOUT_S:g} s") from None

    async def send(self) -> None:
        """Send what the input holds, once its answer can be captured. Raises CaptureGap, PageBroken."""
        self._answer = await self._capture.begin(self._tab.page, follows=self._follows)
        if self.interruption:
            raise self.interruption
        self._login_refusals = LoginRefusals(self._tab.page, self._tab.site)
        submission = SubmissionWatch(self._tab.page, self._tab.site, self._submission_failed)
        self._watches = [self._login_refusals, submission]
        wanted = self._tab.site.send.prompt
        if wanted and (wanted.verify or self._compares_sent):
            self.sent_prompt = SentPromptWatch(self._tab.page, wanted, self._prompt, self._submission_failed)
            self._watches.append(self.sent_prompt)
        for watch in self._watches:
            watch.start()
        # The point of no return: whoever reads the mark must not send this prompt again.
        self._mark_submitted()
        self.submitted = self._tab.prompted = True
        await self._tab.run(self._tab.site.send.actions)

    async def read(self) -> AsyncGenerator[str | Reasoning, None]:
        """Yield the text of the answer to what was sent, and its reasoning. Raises BrowserError.

        A reader may stop, and read on from there by another call.
        """
        if self._answer is None:
            raise RuntimeError("nothing was sent")
        first_s, idle_s = self._settings.first_token_timeout_s, self._settings.stream_idle_timeout_s
        now = asyncio.get_running_loop().time
        has_begun, unread = self.has_text, self._unread
        deadline = now() + (idle_s if has_begun else first_s)
        while not self.complete:
            try:
                if not unread:
                    async with asyncio.timeout_at(deadline):
                        unread.extend(await self._answer.next())
            except TimeoutError:
                if has_begun:
                    raise StreamIdleTimeout(f"the answer stood still for {idle_s:g} s", submitted=True) from None
                raise FirstTokenTimeout(f"no answer began within {first_s:g} s", submitted=True) from None
            number = 0
            while unread:
                number += 1
                if number % TURN_FRAMES == 0:
                    await asyncio.sleep(0)  # one frame may hold thousands
                finding = unread.popleft()
                if isinstance(finding, Text | Reasoning):
                    self.has_text = True
                    yield finding.text if isinstance(finding, Text) else finding
                elif not isinstance(finding, Progress):
                    unread.clear()
                    self._conclude(finding)
                    break
                # The time that the reader of this generator takes does not count as the site's.
                has_begun, deadline = True, now() + idle_s

    def _conclude(self, finding: Finding) -> None:
        """Take in the finding that ends the answer. Raises the error that it amounts to, unless it is Done."""
        self.answer_ended = True
        if isinstance(finding, Done):
            self.complete = True
            return
        if isinstance(finding, LoggedOut):
            raise LoginExpired("the site told the page that its session is over", submitted=True)
        if isinstance(finding, Refused):
            raise error_of(self._tab.site, finding)
        raise SiteFailed("the site broke off the answer before its end", submitted=True)

    def is_not_taken(self, error: BrowserError) -> bool:
        """Whether the site itself says, by this error, that it did not take the prompt, and no text has come."""
        refused = self._login_refusals is not None and self._login_refusals.seen
        return (error.not_taken or (isinstance(error, LoginExpired) and refused)) and not self.has_text

    def interrupt(self, error: BrowserError) -> None:
        """Make the completion fail with this error, wherever it waits for the page."""
        error.submitted = error.submitted or self.submitted
        self.interruption = self.interruption or error
        if self._answer:
            self._answer.interrupt(error)

    def _submission_failed(self, error: BrowserError) -> None:
        if not self.answer_ended:
            self.interrupt(error)

    def refuse(self, message: str) -> None:
        """Make the completion fail with what the site's own message amounts to."""
        self.interrupt(error_of(self._tab.site, Refused(None, message), submitted=self.submitted))

    async def end_answer(self) -> None:
        """Bring the page to rest, so that it can take another prompt in this conversation. Raises BrowserError.

        The rest of the answer is not needed: it is stopped, and where a page has no stop, read to its end.
        """
        if not self.answer_ended:
            # Mostly the answer is about to end by itself, and then the page shows nothing that could be stopped.
            with suppress(TimeoutError):
                async with asyncio.timeout(ENDS_SOON_S if self._tab.can_stop else None):
                    async for _ in self.read():
                        pass
        await self.end()
        if not self.answer_ended:
            await self._tab.stop_answer()
            self.answer_ended = True
        await self._tab.wait_at_rest()
        if self.interruption:
            raise self.interruption

    async def end(self) -> None:
        """Stop capturing. The answer itself goes on on the page."""
        self._stop_looking()
        if self._answer:
            await self._capture.end(self._answer)

    def abandon(self) -> None:
        """Stop listening to a page that is gone."""
        self._stop_looking()
        if self._answer:
            self._capture.release(self._answer)

    def _stop_looking(self) -> None:
        for watch in self._watches:
            watch.stop()

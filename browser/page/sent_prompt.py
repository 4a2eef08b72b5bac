"""What the page made of the prompt: read from its own request, or from what it then shows, and compared.

An input may hold the prompt exactly, and its page send another one: editors drop tabs, fold spaces, trim.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import jmespath
import jmespath.exceptions
import structlog
from playwright.async_api import Error, Page, Request

from browser.errors import BrowserError, PromptChanged
from browser.page.locate import locate_all
from browser.page.page_input import normalised
from browser.page.prompt_difference import Difference, difference
from browser.site.expressions import OPTIONS
from browser.site.schema import SentPrompt, glob_to_regex
from browser.timeouts import within

log = structlog.get_logger("browser")

SHOWS_TIMEOUT_S = 5.0
"""How long the page may take to show the prompt as it was given, or to send it."""
LOOK_TIMEOUT_S = 2.0
LOOK_INTERVAL_S = 0.1


class SentPromptWatch:
    """Finds the prompt in what the page sends or shows after it was sent, and says where it differs.

    A page may make several requests that fit: the first one counts in which the prompt's place holds text. `report`
    is called with the error, if the site file says that a difference is one.
    """

    def __init__(self, page: Page, wanted: SentPrompt, prompt: str, report: Callable[[BrowserError], None]) -> None:
        self._page, self._wanted, self._prompt, self._report = page, wanted, normalised(prompt), report
        self._url = re.compile(glob_to_regex(wanted.url)) if wanted.url else None
        self._expression = jmespath.compile(wanted.json_path) if wanted.json_path else None
        self._looking: asyncio.Task[None] | None = None
        self._looks = False
        self._taken = asyncio.Event()
        self.error: BrowserError | None = None
        """The error that was reported."""
        self.requests = 0
        """How many requests fitted by address and method."""
        self.is_unreadable = False
        """Whether one of them had a body that the browser keeps to itself: Firefox does, by WebDriver BiDi."""
        self.found: str | None = None
        """The prompt as the page sent or shows it; None where it has not been found."""

    def start(self) -> None:
        """Look from now on: the prompt is about to be sent."""
        self._looks = True
        if self._wanted.selector:
            self._looking = asyncio.create_task(self._look(self._wanted.selector), name="page-sent-prompt")
        else:
            self._page.on("request", self._begun)

    def stop(self) -> None:
        """Look no more."""
        if not self._looks:
            return
        self._looks = False
        if self._looking:
            self._looking.cancel()
        else:
            self._page.remove_listener("request", self._begun)
        if self.found is None and self._wanted.verify:
            log.warning("sent_prompt_not_found", requests=self.requests, unreadable=self.is_unreadable)

    async def settled(self) -> None:
        """Wait until the prompt has been found, or the page has had its time to send or show it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SHOWS_TIMEOUT_S):
                await self._taken.wait()

    @property
    def verifies(self) -> bool:
        """Whether the site file says that a difference is an error."""
        return self._wanted.verify

    @property
    def differs(self) -> Difference | None:
        """Where the prompt differs from the one that was asked; None if it does not, or was not found."""
        return None if self.found is None else difference(self._prompt, self.found, rich=False)

    def _begun(self, request: Request) -> None:
        if self.found is not None or request.method != self._wanted.method:
            return
        if self._url is None or not self._url.match(request.url):
            return
        self.requests += 1
        body = request.post_data_buffer
        if body is None:
            self.is_unreadable = True
            self._taken.set()
            return
        text = self._in_body(body, request.headers.get("content-type", ""))
        if text is not None:
            self._take(text)

    def _in_body(self, body: bytes, content_type: str) -> str | None:
        """Return the text at the prompt's place in a request's body, or None."""
        if self._wanted.form:
            return _form_field(body, content_type, self._wanted.form)
        text = body.decode("utf-8", "replace")
        if self._expression is None:
            return text
        try:
            found: Any = self._expression.search(json.loads(text), OPTIONS)
        except (ValueError, RecursionError, jmespath.exceptions.JMESPathError):
            return None
        return found if isinstance(found, str) else None

    async def _look(self, selector: str) -> None:
        shown: str | None = None
        try:
            async with asyncio.timeout(SHOWS_TIMEOUT_S - LOOK_TIMEOUT_S):
                while shown != self._prompt:
                    await asyncio.sleep(LOOK_INTERVAL_S)
                    texts = await within(
                        LOOK_TIMEOUT_S, locate_all(self._page, selector).all_inner_texts(), "page-sent-prompt-look"
                    )
                    shown = normalised(texts[-1]) if texts else None
        except (Error, TimeoutError):
            pass  # what was shown last counts
        if shown is not None:
            self._take(shown)

    def _take(self, text: str) -> None:
        self.found = normalised(text)
        self._taken.set()
        differs = self.differs
        if differs is None or not self._wanted.verify:
            return
        log.warning("sent_prompt_differs", at=differs.at, wanted=differs.wanted, sent=differs.held)
        self.error = PromptChanged(f"the page sent another prompt: {differs.told_of('what it sent')}", submitted=True)
        self._report(self.error)


def _form_field(body: bytes, content_type: str, name: str) -> str | None:
    """Return the first value of a field in a form, urlencoded or multipart, or None.

    Wire formats: https://url.spec.whatwg.org/#application/x-www-form-urlencoded and RFC 7578.
    """
    if not content_type.startswith("multipart/"):
        return next(iter(parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True).get(name, ())), None)
    # Few sites send it, and what reads it takes 1 MB of every child.
    from email import message_from_bytes  # noqa: PLC0415
    from email.message import Message  # noqa: PLC0415
    from email.policy import HTTP  # noqa: PLC0415

    whole: Message = message_from_bytes(b"content-type: " + content_type.encode() + b"\r\n\r\n" + body, policy=HTTP)
    for part in whole.get_payload() if whole.is_multipart() else ():
        if isinstance(part, Message) and part.get_param("name", header="content-disposition") == name:
            value = part.get_payload(decode=True)
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else None
    return None

"""The page's own request that carries the prompt to the site: where it fails, no answer can come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from playwright.async_api import Error, Page, Request, Response

from browser.capture.findings import Refused
from browser.errors import BrowserError, SiteUnreachable
from browser.page.refusals import error_of
from browser.site.schema import Site, glob_to_regex
from browser.timeouts import within

BODY_TIMEOUT_S = 2.0
MAX_MESSAGE_CHARACTERS = 4096
CALLED_OFF = ("ABORTED", "NS_BINDING_ABORTED", "cancelled")
"""In the text of a failed request: the page itself called it off, as some do once they have what they wanted."""


class SubmissionWatch:
    """Looks for a failure of the request that the site file's send.request names, and reports the first one.

    The browser tells of it also where the page itself says nothing, or leaves at once. A request that has got a good
    response was taken: what becomes of its body is told by the capture.
    """

    def __init__(self, page: Page, site: Site, report: Callable[[BrowserError], None]) -> None:
        self._page, self._site, self._report = page, site, report
        self._wanted = site.send.request
        self._url = re.compile(glob_to_regex(self._wanted.url)) if self._wanted else None
        self._open: set[Request] = set()
        self._reading: asyncio.Task[None] | None = None
        self._looks = False

    def start(self) -> None:
        """Look at the requests that the page makes from now on."""
        if self._wanted:
            self._page.on("request", self._begun)
            self._page.on("response", self._answered)
            self._page.on("requestfailed", self._failed)
            self._looks = True

    def stop(self) -> None:
        """Look no more."""
        if self._looks:
            self._page.remove_listener("request", self._begun)
            self._page.remove_listener("response", self._answered)
            self._page.remove_listener("requestfailed", self._failed)
            self._looks = False
        if self._reading:
            self._reading.cancel()

    def _begun(self, request: Request) -> None:
        if self._wanted and self._url and request.method == self._wanted.method and self._url.match(request.url):
            self._open.add(request)

    def _answered(self, response: Response) -> None:
        if response.request not in self._open:
            return
        self._open.discard(response.request)
        if response.status >= 400 and self._reading is None:
            self._reading = asyncio.create_task(self._refuse(response), name="page-submission")

    async def _refuse(self, response: Response) -> None:
        try:
            message = await within(BODY_TIMEOUT_S, response.text(), "page-submission-body")
        except (Error, TimeoutError, UnicodeDecodeError):
            message = ""  # the status says enough
        self._report(error_of(self._site, Refused(response.status, message[:MAX_MESSAGE_CHARACTERS])))

    def _failed(self, request: Request) -> None:
        if request not in self._open:
            return
        self._open.discard(request)
        if not any(words in (request.failure or "") for words in CALLED_OFF):
            self._report(SiteUnreachable("the page's request with the prompt got no answer", submitted=True))

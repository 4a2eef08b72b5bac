"""The WebSocket by which a page's answers come, seen from outside: is it open?"""

from __future__ import annotations

import asyncio
import re

from playwright.async_api import Page, WebSocket

from browser.site.schema import Site, glob_to_regex

LOOK_INTERVAL_S = 0.05


class PageSocket:
    """The sockets of one tab that have the address of the site file's capture.network; none for other kinds.

    Playwright tells of them by itself, so a look costs nothing in the page.
    """

    def __init__(self, page: Page, site: Site) -> None:
        self._sockets: list[WebSocket] = []
        network = site.capture.network
        if network and network.kind == "websocket":
            self._url = re.compile(glob_to_regex(network.url))
            page.on("websocket", self._note)

    def _note(self, socket: WebSocket) -> None:
        if self._url.match(socket.url):
            self._sockets = [other for other in self._sockets if not other.is_closed()] + [socket]

    def forget(self) -> None:
        """Forget those of the document that is about to be left."""
        self._sockets = []

    @property
    def is_open(self) -> bool:
        """Whether there is one that has not been closed."""
        return any(not socket.is_closed() for socket in self._sockets)

    async def opens(self, timeout_s: float) -> bool:
        """Wait until there is one; return whether there is within timeout_s seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.is_open:  # noqa: ASYNC110 - a look costs nothing, and the wait is rare
                    await asyncio.sleep(LOOK_INTERVAL_S)
        except TimeoutError:
            return False
        return True


class SocketWatch:
    """Whether the page's socket stays closed although the page opens it by itself when it is loaded.

    Only what was seen open before the first prompt is expected to be open: some pages open a socket for each answer.
    """

    OPENS_WITHIN_S = 5.0
    """How long a page that was loaded anew may take to open it."""
    CLOSED_AFTER_LOOKS = 3
    """A page that has lost its connection is given time to make it anew."""

    def __init__(self) -> None:
        self.is_expected = False
        """Whether the page was seen to open its socket by itself."""
        self._closed_looks = 0

    def look(self, socket: PageSocket, *, prompted: bool) -> bool:
        """Take in one look at an idle page; return whether the socket is closed for good.

        `prompted`: whether a prompt was sent since the page was loaded.
        """
        if socket.is_open:
            self._closed_looks = 0
            self.is_expected = self.is_expected or not prompted
        elif self.is_expected:
            self._closed_looks += 1
        return self._closed_looks >= self.CLOSED_AFTER_LOOKS

    def loaded_anew(self) -> None:
        """Begin to count anew: the page was loaded."""
        self._closed_looks = 0

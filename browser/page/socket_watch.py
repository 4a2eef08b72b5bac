"""Whether the WebSocket by which a page's answers come is open while the page is idle."""

from __future__ import annotations

import asyncio

from browser.page.site_page import SitePage


class SocketWatch:
    """Finds a page whose socket stays closed although the page opens it by itself when it is loaded.

    Only what was seen open before the first prompt is expected to be open: some pages open a socket for each answer.
    """

    OPENS_WITHIN_S = 5.0
    """How long a page that was loaded anew may take to open it."""
    OPENING_INTERVAL_S = 0.1
    CLOSED_AFTER_LOOKS = 3
    """A page that has lost its connection is given time to make it anew."""
    LOOK_EACH = 3
    """A socket that is open is looked at every so many looks at the page: each costs some time in the page."""

    def __init__(self, page: SitePage) -> None:
        self._page = page
        self._skip = 0
        self._closed_looks = 0
        self.is_expected = False
        """Whether the page was seen to open its socket by itself."""

    async def is_lost(self) -> bool:
        """Take part in a look at the idle page; return whether its socket is closed for good."""
        self._skip = max(0, self._skip - 1)
        if not self._skip:
            await self._look()
        return self._closed_looks >= self.CLOSED_AFTER_LOOKS

    async def _look(self) -> None:
        if await self._page.socket_is_open():
            self._closed_looks, self._skip = 0, self.LOOK_EACH
            self.is_expected = self.is_expected or not self._page.tab.prompted
        elif self.is_expected:
            self._closed_looks += 1

    async def opens(self) -> bool:
        """Return whether a page that was just loaded has the socket that is expected, after OPENS_WITHIN_S at most."""
        self._closed_looks = self._skip = 0
        await self._look()
        if not self._closed_looks:
            return True
        try:
            async with asyncio.timeout(self.OPENS_WITHIN_S):
                while self._closed_looks:
                    await asyncio.sleep(self.OPENING_INTERVAL_S)
                    await self._look()
        except TimeoutError:
            return False
        return True

"""Look at the page every second, and where something is wrong load it anew."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog
from playwright.async_api import Error

from browser.errors import BrowserError, LoginExpired, PageBroken, PageHung, SiteUnreachable
from browser.page.completion import Completion
from browser.page.login_refresh import LoginRefresh
from browser.page.login_watch import LoginWatch
from browser.page.page_status import PageStatus
from browser.page.site_page import SitePage
from browser.page.socket_watch import SocketWatch
from browser.page.tab import PageSnapshot
from browser.settings import BrowserSettings
from contract.child_api import AWAY as AWAY_REASONS

log = structlog.get_logger("browser")

TICK_S = 1.0
BETWEEN_DOCUMENTS_TICKS = 5
HANGS_AFTER_LOOKS = 3
"""Failed looks in a row after which the page counts as hanging. One alone tells of a machine that is short of CPU."""
RENEW_AFTER_S = 10.0
RENEWALS = 3
RENEWALS_COUNT_FOR_S = 300.0
FIRST_RETRY_S = 2.0
LAST_RETRY_S = 60.0
LAST_RETRY_AWAY_S = 5.0
"""A site that is away is not burdened by being asked, and is to be used as soon as it is back."""
AWAY = "the site does not answer the login check"
SOCKET_CLOSED = "the page's connection for answers stays closed"


class PageMonitor:
    """Looks at the page and recovers it; `status` then says how it is.

    A look needs no permission. A recovery holds `exclusive`, as a prompt does, so that neither gets into the other's
    way. `current` gives the completion that runs, if any: what a look finds then is told to it.
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        page: SitePage,
        status: PageStatus,
        login: LoginWatch,
        refresh: LoginRefresh | None,
        exclusive: asyncio.Lock,
        current: Callable[[], Completion | None],
        settings: BrowserSettings,
        give_up: Callable[[], object],
    ) -> None:
        """`refresh` keeps the login, if the site file says how; `give_up` is called where the page goes on hanging."""
        self._page = page
        self._status = status
        self._login = login
        self._refresh = refresh
        self._exclusive = exclusive
        self._current = current
        self._login_check_s = settings.login_check_s
        self._sleep_after_s, self._sleep_check_s = settings.sleep_after_s, settings.sleep_check_s
        self._idle_since = time.monotonic()
        self._uses = -1
        self._asleep_since = 0.0
        self._give_up = give_up
        self._must_recover = False
        self._socket = SocketWatch(page)
        self._blind_ticks = self._failed_looks = 0
        self._hung_since = 0.0
        self._renewals = 0
        self._renewed_at = -math.inf
        self._retry_s = FIRST_RETRY_S
        self._retry_at = 0.0

    async def run(self) -> None:
        """Look at the page every second until cancelled."""
        while True:
            await self._tick()
            await asyncio.sleep(TICK_S)

    async def _tick(self) -> None:
        if self._page.is_asleep:
            await self._wake_if_due()
            return
        if self._page.is_gone:
            await self._recover_if_due("the page crashed, or could not be opened")
            return
        looked_at = time.monotonic()
        try:
            seen = await self._page.tab.look()
        except PageHung:
            if not self._failed_looks:
                self._hung_since = looked_at
            self._failed_looks += 1
            if self._failed_looks >= HANGS_AFTER_LOOKS:
                self._status.set_hangs(hangs=True)
            await self._renew_if_due()
            return
        self._failed_looks = 0
        self._status.set_hangs(hangs=False)
        if seen is None:  # it is between two documents: that takes a moment, but not several seconds
            self._blind_ticks += 1
            if self._blind_ticks >= BETWEEN_DOCUMENTS_TICKS:
                await self._recover_if_due("the page cannot be looked at")
            return
        self._blind_ticks = 0
        await self._act_on(seen)

    async def _act_on(self, seen: PageSnapshot) -> None:
        completion = self._current()
        if completion:
            if seen.shows_logout:
                completion.interrupt(LoginExpired("the site shows its login page"))
            elif seen.error is not None:
                completion.refuse(seen.error)
        # A check beside the page shall be the only one that asks the site: some end a session whose cookie comes twice.
        elif not self._exclusive.locked() and not self._page.has_beside:
            await self._tend(seen)

    async def _tend(self, seen: PageSnapshot) -> None:
        """See to a page that has no prompt."""
        reason = self._status.page_reason
        if not seen.usable or self._must_recover or reason not in (None, *AWAY_REASONS):
            await self._recover_if_due("the page is not as it should be")
            return
        if problem := self._page.proxy_problem():
            self._status.set_error(problem)  # and the page is kept, as below
            return
        must_load = not await self._login.check_if_due()
        if self._login.site_is_away:
            # The page itself is as it was, and is kept as long as a load can only fail.
            self._status.set_error(SiteUnreachable(AWAY))
        elif must_load or reason is not None:
            await self._recover_if_due(
                "the site, or the proxy, answers again" if reason else "the site's login check failed"
            )
        elif await self._socket.is_lost():
            await self._recover_if_due(SOCKET_CLOSED)
        elif self._refresh and self._refresh.is_due and not self._exclusive.locked():
            await self._refresh_login(self._refresh)
        elif self._sleep_after_s:
            await self._sleep_if_idle()

    async def _sleep_if_idle(self) -> None:
        """Close the page's context, once no request has come for so long. Its session is saved before."""
        uses, now = self._login.uses, time.monotonic()
        if uses != self._uses or self._exclusive.locked():
            self._uses, self._idle_since = uses, now
            return
        if now - self._idle_since < self._sleep_after_s:
            return
        async with self._exclusive:
            if self._login.uses != uses or self._page.has_beside:  # somebody was faster: see `_refresh_login`
                return
            await self._login.save()
            with suppress(TimeoutError):  # the context of a page that hangs; the next is another
                await self._page.sleep()
            self._asleep_since = time.monotonic()
            log.info("page_asleep", idle_s=round(now - self._idle_since))

    async def _wake_if_due(self) -> None:
        """Wake the page to see that its login holds, or to refresh the login, or where waking it has failed."""
        has_failed = self._status.page_reason is not None
        is_due = time.monotonic() >= (self._retry_at if has_failed else self._asleep_since + self._sleep_check_s)
        if (is_due or (self._refresh and self._refresh.is_due)) and not self._exclusive.locked():
            async with self._exclusive:
                await self.wake()

    async def wake(self) -> None:
        """Open the page again if it is asleep; the caller holds `exclusive`. The status says what became of it."""
        if self._page.is_asleep:
            began = time.monotonic()
            await self._open(self._renew())
            self._uses, self._idle_since = self._login.uses, time.monotonic()
            log.info("page_awake", took_s=round(self._idle_since - began, 3))

    async def _refresh_login(self, refresh: LoginRefresh) -> None:
        """Refresh the login. A request that comes meanwhile waits: one that is cut off may cost the login."""
        uses = self._login.uses
        async with self._exclusive:
            # A lock that is free may have a waiter that has not woken yet: then a request went before.
            if self._login.uses == uses:
                await refresh.run(self.recover)

    async def _renew_if_due(self) -> None:
        """Open a page that hangs in a new context, unless it has a prompt, which may still end well.

        A page's process may die without a word, as Firefox's do, or the page may never come to itself again. The
        fourth time within five minutes it is the browser that is given up.
        """
        now = time.monotonic()
        if now - self._hung_since < RENEW_AFTER_S or self._exclusive.locked():
            return
        if now - self._renewed_at > RENEWALS_COUNT_FOR_S:
            self._renewals = 0
        if self._renewals >= RENEWALS:
            log.error("page_hangs", renewals=self._renewals)
            self._give_up()
            return
        self._renewals += 1
        log.warning("page_renewed", why="it hangs", renewals=self._renewals)
        async with self._exclusive:
            await self._open(self._renew())
        self._renewed_at = time.monotonic()
        self._failed_looks = 0

    async def _renew(self) -> None:
        await self._page.renew(self._login.latest_session())
        self._status.set_hangs(hangs=False)

    async def _recover_if_due(self, why: str) -> None:
        if self._exclusive.locked() or time.monotonic() < self._retry_at:
            return
        log.info("page_recovery", why=why)
        async with self._exclusive:
            await self.recover()

    async def recover(self) -> None:
        """Load the page anew; the caller holds `exclusive`.

        One load tells a lost login from a page that went astray, so it is tried whatever is wrong.
        """
        await self._login.save_cookies()
        await self._open(self._page.open())

    async def _open(self, opening: Coroutine[Any, Any, None]) -> None:
        self._must_recover = False
        try:
            await opening
            # It is open; what it needs of the site may not be there.
            if await self._login.site_stays_away():
                raise SiteUnreachable(AWAY)
            if not await self._socket.opens():
                raise SiteUnreachable(SOCKET_CLOSED)
        except BrowserError as error:
            await self.set_failed(error)
        except (Error, TimeoutError) as error:
            log.debug("page_not_opened", error=type(error).__name__)
            await self.set_failed(PageBroken("the page could not be opened"))
        else:
            self._status.set_ready()
            self._login.note_use()
            self._retry_s = FIRST_RETRY_S

    def recover_soon(self) -> None:
        """Recover the page as soon as it can be looked at and is not in use."""
        self._must_recover, self._retry_at = True, 0.0

    async def set_failed(self, error: BrowserError) -> None:
        """Take down why the page is not usable, and put off the next recovery: longer each time, to spare the site."""
        error = self._login.for_status(await self._login.judge(error))
        self._status.set_error(error)
        retry_s = self._retry_s
        if isinstance(error, LoginExpired):
            retry_s = self._login_check_s
        elif isinstance(error, SiteUnreachable):
            retry_s = min(retry_s, LAST_RETRY_AWAY_S)
        self._retry_at = time.monotonic() + retry_s
        self._retry_s = min(self._retry_s * 2, LAST_RETRY_S)

"""Keeps the page usable: watches it, notices what is wrong, and brings it back."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog
from playwright.async_api import BrowserContext, Error

from browser.capture import scripts
from browser.capture.capture import Capture
from browser.errors import BrowserError, LoginExpired, PageBroken
from browser.page.completion import Turn
from browser.page.page_status import Condition
from browser.page.session import SessionKeeper
from browser.page.tab import PROBE_TIMEOUT_S, Hung, Look, Tab
from browser.settings import BrowserSettings
from browser.site.schema import Site
from browser.timeouts import within

log = structlog.get_logger("browser")

TICK_S = 1.0
NEW_TAB_TIMEOUT_S = 15.0
SAVE_AFTER_S = 1.0
BETWEEN_DOCUMENTS_TICKS = 5
LOGIN_SHOWS_AFTER_S = 1.0
FIRST_RETRY_S = 2.0
LAST_RETRY_S = 60.0


class Keeper:
    """Owns the tab. Whoever works with the page holds `use`; a look at it needs no permission."""

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        site: Site,
        capture: Capture,
        settings: BrowserSettings,
        condition: Condition,
        context: BrowserContext,
        session: SessionKeeper,
        is_lost: Callable[[], bool],
    ) -> None:
        self._site = site
        self._capture = capture
        self._settings = settings
        self._condition = condition
        self._context = context
        self._session = session
        self._is_lost = is_lost
        self._tab: Tab | None = None
        self._is_fresh = False
        self._is_unsettled = False
        self._owes_stop = False
        self._blind_ticks = 0
        self._retry_s = FIRST_RETRY_S
        self._retry_at = 0.0
        self._checked_at = time.monotonic()
        self._has_news = False
        self.use = asyncio.Lock()
        self.turn: Turn | None = None

    @property
    def tab(self) -> Tab:
        if self._tab is None:
            raise PageBroken("the page is not open")
        return self._tab

    @property
    def tab_is_gone(self) -> bool:
        return self._tab is not None and self._tab.crashed

    async def open(self) -> None:
        """Open the page for the first time; the condition then says how it is."""
        async with self.use:
            await self._recover()

    async def run(self) -> None:
        """Look at the page every second, for as long as the browser lives."""
        while not self._is_lost():
            await self._tick()
            await asyncio.sleep(TICK_S)

    async def _tick(self) -> None:
        if self.tab.crashed:
            await self._recover_if_due("the page crashed")
            return
        try:
            look = await self.tab.look(PROBE_TIMEOUT_S)
        except Hung:
            self._condition.set_hangs(hangs=True)
            return
        self._condition.set_hangs(hangs=False)
        if look is None:
            await self._count_blind_tick()
            return
        self._blind_ticks = 0
        if self.turn:
            self._look_while_answering(self.turn, look)
        elif not self.use.locked():
            await self._look_while_idle(look)

    async def _count_blind_tick(self) -> None:
        self._blind_ticks += 1
        if self._blind_ticks >= BETWEEN_DOCUMENTS_TICKS and not self.use.locked():
            await self._recover_if_due("the page cannot be looked at")

    def _look_while_answering(self, turn: Turn, look: Look) -> None:
        if look.logged_out and not look.logged_in:
            turn.interrupt(LoginExpired("the site shows its login page"))
        elif look.error is not None:
            turn.refuse(look.error)

    async def _look_while_idle(self, look: Look) -> None:
        if not look.usable or self._is_unsettled or self._condition.of_page is not None:
            await self._recover_if_due("the page is not as it should be")
        elif time.monotonic() - self._checked_at > self._settings.login_check_s:
            await self._check_login()
        else:
            await self.save_news()

    async def _check_login(self) -> None:
        """Ask the site, where its file says how, whether the session still holds; save it if so."""
        self._checked_at = time.monotonic()
        if await self._login_holds() is False:
            await self._recover_if_due("the site's login check failed")
        else:
            await self.save_session()

    async def is_logged_out(self) -> bool:
        """Find out whether the login is what was lost: by asking the site, or else by what the page shows."""
        holds = await self._login_holds()
        if holds is None:
            return await self.tab.settle(LOGIN_SHOWS_AFTER_S) == "out"
        return not holds

    async def _login_holds(self) -> bool | None:
        """Ask the site where its file says how; None where it does not, or the site does not answer."""
        check = self._site.login.check
        status = await self._status_of(self._site.address(check.url)) if check else None
        return None if check is None or status is None else status not in check.expired_status

    async def _status_of(self, url: str) -> int | None:
        try:
            asking = self.tab.page.evaluate(scripts.REQUEST_STATUS, url)
            status: int = await within(PROBE_TIMEOUT_S, asking, "page-login-check")
        except (Error, TimeoutError):
            return None
        return status

    async def _recover_if_due(self, why: str) -> None:
        if self.use.locked() or time.monotonic() < self._retry_at:
            return
        log.info("page_recovery", why=why)
        async with self.use:
            await self._recover()

    async def _recover(self) -> None:
        """Load the page anew and see how it is. One load tells a lost login from a page that went astray."""
        self._is_fresh, self._is_unsettled = False, False
        try:
            if self._tab is None or self._tab.crashed:
                await within(NEW_TAB_TIMEOUT_S, self._new_tab(), "page-new-tab")
            elif self._owes_stop:
                await self._stop_late()
            self._owes_stop = False
            await self._load()
            await self._become_ready()
        except BrowserError as error:
            self._condition.set_error(error)
        except (Error, TimeoutError) as error:
            self._condition.set_error(PageBroken("the page could not be opened"))
            log.debug("page_not_opened", error=type(error).__name__)
        self._plan_retry()

    async def _stop_late(self) -> None:
        """Stop what could not be stopped while the page hung: some sites write on when their page is left."""
        with suppress(BrowserError):
            await self.tab.stop_answer()

    async def _load(self) -> None:
        try:
            await self.tab.load()
        except PageBroken:  # perhaps only because the page itself went on to another address
            if await self.tab.settle(PROBE_TIMEOUT_S) == "unknown":
                raise

    def _plan_retry(self) -> None:
        if self._condition.of_page is None:
            self._retry_s = FIRST_RETRY_S
            return
        is_logged_out = self._condition.of_page == "login_expired"
        self._retry_at = time.monotonic() + (self._settings.login_check_s if is_logged_out else self._retry_s)
        self._retry_s = min(self._retry_s * 2, LAST_RETRY_S)

    async def _new_tab(self) -> None:
        if self._tab and not self._tab.page.is_closed():
            await self._tab.page.close()
        self._tab = Tab(await self._context.new_page(), self._site, self._on_crash)

    def _on_crash(self) -> None:
        if self.turn:
            self.turn.interrupt(PageBroken("the page crashed"))

    async def _become_ready(self) -> None:
        login = await self.tab.settle(self._site.readiness.timeout_s)
        if login == "out":
            raise LoginExpired("the site shows its login page; log in again and replace the profile")
        if login == "unknown":
            raise PageBroken("the page shows no marker of being logged in or out (site file: login, readiness)")
        if self._capture.mode is None:
            await self._capture.self_test(self.tab.page)
        await self._open_fresh_chat(just_loaded=True)
        self._condition.set_ready()
        self._has_news = True

    async def _open_fresh_chat(self, *, just_loaded: bool = False) -> None:
        if just_loaded and self._site.opens_empty:
            await self.tab.wait_fresh()
        else:
            await self.tab.open_fresh_chat()
        if not await self._capture.wait_connected(self.tab.page):
            log.warning("page_not_connected", hint="site file: capture.network.ready_frames")
        self._is_fresh = True

    async def require_fresh(self) -> Tab:
        """Return the tab on an empty conversation. Raises BrowserError if it is not usable."""
        self._condition.require_ready()
        if not self._is_fresh:
            await self._open_fresh_chat()
        self._is_fresh = False
        return self.tab

    async def freshen(self, *, stop: bool, anew: bool = False) -> None:
        """Stop the answer if it is to be stopped, and open an empty conversation ahead of the next prompt.

        With `anew` the page is loaded for it, whatever its own way of opening one.

        If the page's own way fails it is loaded anew; if that fails too, the condition says so.
        """
        if self._condition.hangs or self._condition.of_page is not None:
            self._is_unsettled, self._retry_at = True, 0.0
            self._owes_stop = stop
            return
        try:
            if stop:
                await self.tab.stop_answer()
            if anew:
                await self._recover()
                return
            await self._open_fresh_chat()
            self._has_news = True
        except BrowserError as error:
            log.warning("fresh_chat_failed", detail=str(error))
            if isinstance(error, LoginExpired) and await self._login_holds() is False:
                self._condition.set_error(error)  # the site has said so itself: no further load is needed to tell
                self._plan_retry()
            else:
                await self._recover()

    async def save_news(self) -> None:
        """Save the session after an answer, unless that was done a moment ago."""
        if self._has_news and self._session.age_s > SAVE_AFTER_S:
            await self.save_session()

    async def save_session(self) -> None:
        """Save the browser's login, if the page shows that it is one."""
        if self._condition.of_page is not None or self._condition.hangs:
            return
        with suppress(Hung):
            look = await self.tab.look()
            if look and look.logged_in and not look.logged_out:
                self._has_news = False
                await self._session.save(self._context)

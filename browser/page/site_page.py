"""The one way to open a site's page: a context with a login, a tab, the page in it, its login, its capture.

Serving takes all steps by `SitePage.open`. `--login` and the checker take those that they need one by one, the
checker because it names the step that fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Self

import structlog
from playwright.async_api import Browser, BrowserContext, Error, Page

from browser.capture.capture import Capture, CaptureMode
from browser.errors import BrowserError, LoginExpired, PageBroken, SiteUnreachable
from browser.page.login_steps import StepLogin
from browser.page.profile import StorageState, as_chromium_loads_it
from browser.page.tab import LOOK_TIMEOUT_S, LoginState, Tab
from browser.site.schema import Site
from browser.timeouts import within

log = structlog.get_logger("browser")

NEW_TAB_TIMEOUT_S = 15.0
OPENING_INTERVAL_S = 0.01
POPUP_OPENS_WITHIN_S = 2.0
CLOSE_TIMEOUT_S = 5.0


class SitePage:
    """A site's page in one browser context. The tab is another one after a crash, the rest stays."""

    def __init__(
        self,
        context: BrowserContext,
        site: Site,
        capture: Capture | None,
        on_crash: Callable[[], None],
        log_in: StepLogin | None = None,
    ) -> None:
        self.context = context
        self._site = site
        self._capture = capture
        self._on_crash = on_crash
        self._log_in = log_in
        self._tab: Tab | None = None
        self._opening = 0
        self._beside: set[Page] = set()
        self.is_fresh = False
        """Whether an empty conversation was opened that no prompt has gone to yet."""
        self.answer_left_running = False
        """Whether an answer must be stopped before the page is loaded anew: some sites write on when it is left."""

    @classmethod
    async def in_new_context(  # noqa: PLR0913 - all but two by keyword
        cls,
        browser: Browser,
        site: Site,
        *,
        state: StorageState | None = None,
        capture: Capture | None = None,
        on_crash: Callable[[], None] = lambda: None,
        for_person: bool = False,
        log_in: StepLogin | None = None,
    ) -> Self:
        """Open a context with this login's cookies and localStorage, and the capture's hook in every document.

        Without `capture` the page is as in any browser. `for_person` makes it as large as its window, and keeps the
        pages that it opens, such as a login in a popup; otherwise they are closed. `log_in` is used where the page
        shows that it is logged out. Downloads are refused. Raises Playwright's Error.
        """
        context = await cls._new_context(browser, site, state, capture, for_person=for_person)
        opened = cls(context, site, capture, on_crash, log_in)
        if not for_person:
            context.on("page", opened._close_other)
        return opened

    @staticmethod
    async def _new_context(
        browser: Browser, site: Site, state: StorageState | None, capture: Capture | None, *, for_person: bool = False
    ) -> BrowserContext:
        is_chromium = browser.browser_type.name == "chromium"
        context = await browser.new_context(
            storage_state=as_chromium_loads_it(state) if state and is_chromium else state,  # type: ignore[arg-type]
            accept_downloads=False,
            no_viewport=for_person or None,
        )
        # The page's own policy and the browser's protection of loopback stay in force: where they keep the hook from
        # the stream port, its frames come over the console.
        if site.local_network and is_chromium:  # Firefox does not know the permission
            with suppress(Error):  # a plain http origin can be granted nothing
                await context.grant_permissions(["local-network-access"], origin=site.origin)
        if capture is not None:
            await context.add_init_script(capture.init_script())
        return context

    @property
    def tab(self) -> Tab:
        """The tab that is open. Raises PageBroken if none is."""
        if self._tab is None:
            raise PageBroken("the page is not open")
        return self._tab

    @property
    def is_gone(self) -> bool:
        """Whether there is no tab to work with: it crashed, was closed, or could not be opened."""
        return self._tab is None or self._tab.crashed

    async def open(self) -> None:
        """Open the page on an empty conversation, by all steps below; anew if it was open before.

        Raises LoginExpired, PageBroken, and Playwright's Error and TimeoutError where no tab can be opened.
        """
        self.is_fresh = False
        if self._tab is None or self._tab.crashed:
            await within(NEW_TAB_TIMEOUT_S, self.open_tab(), "page-new-tab")
        elif self.answer_left_running:
            with suppress(BrowserError):
                await self._tab.stop_answer()
        self.answer_left_running = False
        await self.load()
        login = await self.wait_for_login()
        if login == "out" and self._log_in:
            await self._log_in.run(self.tab)
            login = "in"
        if login == "out":
            raise LoginExpired("the site shows its login page; log in again and replace the profile")
        if login == "unknown":
            raise PageBroken("the page shows no marker of being logged in or out (site file: login, readiness)")
        if self._capture and self._capture.mode is None:
            await self.test_capture()
        await self.open_fresh_chat(just_loaded=True)

    @property
    def can_log_in(self) -> bool:
        """Whether the page is logged in by steps, without a person, where it shows that it is logged out."""
        return self._log_in is not None

    @asynccontextmanager
    async def shows_no_secret(self) -> AsyncIterator[None]:
        """Wait for the end of a login that is being done by steps, and begin no other one meanwhile."""
        async with self._log_in.may_show_secrets if self._log_in else nullcontext():
            yield

    async def renew(self, state: StorageState) -> None:
        """Open the page, by all steps of `open`, in a new context with this login: what hangs is left behind.

        Raises as `open` does.
        """
        old, browser = self.context, self.context.browser
        if browser is None:
            raise PageBroken("there is no browser")
        renewing = self._new_context(browser, self._site, state, self._capture)
        self.context = await within(NEW_TAB_TIMEOUT_S, renewing, "page-new-context")
        self.context.on("page", self._close_other)
        if self._tab:
            self._tab.retire()
        self._tab = None
        with suppress(Error, TimeoutError):
            await within(CLOSE_TIMEOUT_S, old.close(), "page-old-context")
        await self.open()

    async def open_tab(self) -> Tab:
        """Open a tab in place of the one before, if any. Raises Playwright's Error."""
        if self._tab and not self._tab.page.is_closed():
            await self._tab.page.close()
        self._opening += 1
        try:
            hook_name = self._capture.hook_name if self._capture else None
            self._tab = Tab(await self.context.new_page(), self._site, self._on_crash, hook_name=hook_name)
        finally:
            self._opening -= 1
        return self._tab

    async def open_beside(self) -> Page:
        """Open a page in the same context, with the same login, that is the caller's, who closes it.

        Raises Playwright's Error.
        """
        self._opening += 1
        try:
            page = await self.context.new_page()
            self._beside.add(page)
            page.once("close", self._beside_closed)
        finally:
            self._opening -= 1
        return page

    def _beside_closed(self, page: Page) -> None:
        self._beside.discard(page)

    @property
    def has_beside(self) -> bool:
        """Whether a page of `open_beside` is open."""
        return bool(self._beside)

    async def _close_other(self, page: Page) -> None:
        """Close a page that the site opened: nobody looks at it, and each takes a process of its own."""
        # A page that is opened by us is told from one that the site opens at the same moment once ours is there.
        while self._opening:  # noqa: ASYNC110 - it takes a moment, and the browser has no event for it
            await asyncio.sleep(OPENING_INTERVAL_S)
        if page not in self._beside and (self._tab is None or page is not self._tab.page):
            log.debug("popup_closed")
            # Firefox does not close a window that it has not finished opening, and then never does.
            with suppress(Error, TimeoutError):
                await within(POPUP_OPENS_WITHIN_S, page.wait_for_load_state("domcontentloaded"), "popup-open")
            with suppress(Error, TimeoutError):
                await within(CLOSE_TIMEOUT_S, page.close(), "popup-close")

    async def load(self, login_shows_within_s: float = LOOK_TIMEOUT_S) -> None:
        """Load the site's page. Raises SiteUnreachable, or PageBroken if it cannot be loaded for another reason.

        A page that goes on to another address by itself while it loads is no failure, if it then shows within the
        time given, in seconds, whether it is logged in.
        """
        try:
            await self.tab.load()
        except SiteUnreachable:
            raise  # whatever the browser shows in place of the page tells nothing of the login
        except PageBroken:
            if await self.tab.wait_for_login(login_shows_within_s) == "unknown":
                raise

    async def wait_for_login(self, timeout_s: float | None = None) -> LoginState:
        """Wait until the page shows whether it is logged in, as long as the site file's readiness when not given."""
        return await self.tab.wait_for_login(self._site.readiness.timeout_s if timeout_s is None else timeout_s)

    async def test_capture(self) -> CaptureMode:
        """Find out how answers can be captured on this page, and return it."""
        if self._capture is None:
            raise RuntimeError("the page was opened without a capture")
        return await self._capture.self_test(self.tab.page)

    async def socket_is_open(self) -> bool:
        """Return whether the page has a WebSocket open by which answers come; False where none is looked for."""
        return self._capture is not None and await self._capture.socket_is_open(self.tab.page)

    async def open_fresh_chat(self, *, just_loaded: bool = False) -> None:
        """Open an empty conversation ahead of the next prompt. Raises LoginExpired, PageBroken."""
        if just_loaded and self._site.opens_empty:
            await self.tab.wait_fresh()
        else:
            await self.tab.open_fresh_chat()
        if self._capture and not await self._capture.wait_connected(self.tab.page):
            log.warning("page_not_connected", hint="site file: capture.network.ready_frames")
        self.is_fresh = True

    async def take_fresh_chat(self) -> Tab:
        """Return the tab on an empty conversation, which is the caller's. Raises LoginExpired, PageBroken."""
        if not self.is_fresh:
            await self.open_fresh_chat()
        self.is_fresh = False
        return self.tab

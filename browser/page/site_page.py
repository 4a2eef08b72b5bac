"""The one way to open a site's page: a context with a login, a tab, the page in it, its login, its capture.

Serving takes all steps by `SitePage.open`. `--login` and the checker take those that they need one by one, the
checker because it names the step that fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any, Protocol, Self

import structlog
from playwright.async_api import BrowserContext, BrowserType, Error, Page

from browser.capture.capture import Capture, CaptureMode
from browser.errors import BrowserError, LoginExpired, PageBroken, SiteUnreachable
from browser.page.closing import CLOSE_TIMEOUT_S, close_page
from browser.page.login_steps import StepLogin
from browser.page.profile import StorageState
from browser.page.storage import as_browser_loads_it, put_back_session_storage, without_databases
from browser.page.tab import LOOK_TIMEOUT_S, LoginState, Tab
from browser.process.own_proxy import OwnProxy, ProxyProblem
from browser.site.schema import Site
from browser.timeouts import finish, leave_after, within
from contract.surroundings import Surroundings

log = structlog.get_logger("browser")

NEW_TAB_TIMEOUT_S = 15.0
OPENING_INTERVAL_S = 0.01
COMMON = Surroundings()


class ContextMaker(Protocol):
    """What opens browser contexts: Playwright's browser, or a page's share of it."""

    @property
    def browser_type(self) -> BrowserType:
        """Which browser it is."""

    @property
    def new_context(self) -> Callable[..., Any]:
        """Opens a context; takes the options of Playwright's `Browser.new_context`."""


class SitePage:
    """A site's page in one browser context. The tab is another one after a crash, the rest stays."""

    def __init__(  # noqa: PLR0913 - called once
        self,
        browser: ContextMaker,
        context: BrowserContext,
        site: Site,
        capture: Capture | None,
        on_crash: Callable[[], None],
        *,
        log_in: StepLogin | None,
        own_proxy: OwnProxy | None,
    ) -> None:
        self.browser = browser
        self.context = context
        self._site = site
        self._capture = capture
        self._on_crash = on_crash
        self._log_in = log_in
        self.state: StorageState = {}
        """The login as it was opened or saved last; each new tab gets its sessionStorage."""
        self._surroundings = COMMON
        self._own_proxy = own_proxy
        self._tab: Tab | None = None
        self._opening = 0
        self._is_asleep = False
        self._beside: set[Page] = set()
        self.is_fresh = False
        """Whether an empty conversation was opened that no prompt has gone to yet."""
        self.answer_left_running = False
        """Whether an answer must be stopped before the page is loaded anew: some sites write on when it is left."""

    @classmethod
    async def in_new_context(  # noqa: PLR0913 - all but two by keyword
        cls,
        browser: ContextMaker,
        site: Site,
        *,
        state: StorageState | None = None,
        capture: Capture | None = None,
        on_crash: Callable[[], None] = lambda: None,
        for_person: bool = False,
        log_in: StepLogin | None = None,
        surroundings: Surroundings = COMMON,
        own_proxy: OwnProxy | None = None,
    ) -> Self:
        """Open a context with this login's storage, and the capture's hook in every document.

        Without `capture` the page is as in any browser. `for_person` makes it as large as its window, and keeps the
        pages that it opens, such as a login in a popup; otherwise they are closed. `log_in` is used where the page
        shows that it is logged out; `own_proxy`, the browser's, is checked before each load. `surroundings` are what
        the page sees of them: locale, time zone, size and user agent. Downloads are refused. Raises Playwright's Error.
        """
        context = await cls._new_context(browser, site, state, capture, surroundings, for_person=for_person)
        opened = cls(browser, context, site, capture, on_crash, log_in=log_in, own_proxy=own_proxy)
        opened.state = state or {}
        opened._surroundings = surroundings
        if not for_person:
            context.on("page", opened._close_other)
        return opened

    async def with_login(self, state: StorageState) -> SitePage:
        """Open a new context with this login, of the same site and with the same surroundings, without a hook."""
        return await SitePage.in_new_context(
            self.browser, self._site, state=state, surroundings=self._surroundings, own_proxy=self._own_proxy
        )

    @staticmethod
    async def _new_context(  # noqa: PLR0913 - what a context is made of
        browser: ContextMaker,
        site: Site,
        state: StorageState | None,
        capture: Capture | None,
        surroundings: Surroundings,
        *,
        for_person: bool = False,
    ) -> BrowserContext:
        is_chromium = browser.browser_type.name == "chromium"
        given = as_browser_loads_it(state) if state else None
        size = surroundings.viewport

        async def open_context() -> BrowserContext:
            opened: BrowserContext = await browser.new_context(
                storage_state=given,
                accept_downloads=False,
                no_viewport=for_person or None,
                viewport={"width": size.width, "height": size.height} if size and not for_person else None,
                locale=surroundings.locale,
                timezone_id=surroundings.timezone,
                user_agent=surroundings.user_agent,
            )
            return opened

        try:
            context = await open_context()
        except Error as error:
            # A profile of another tool, or a database that this browser takes otherwise: the rest may be the login.
            if given is None or "indexeddb" not in error.message.lower():
                raise
            log.warning("databases_not_put_back")
            given = without_databases(given)
            context = await open_context()
        # The page's own policy and the browser's protection of loopback stay in force: where they keep the hook from
        # the stream port, its frames come over the console.
        if site.local_network and is_chromium:  # Firefox does not know the permission
            with suppress(Error):  # a plain http origin can be granted nothing
                await context.grant_permissions(["local-network-access"], origin=site.origin)
        if capture is not None:
            await context.add_init_script(capture.init_script())
        return context

    @property
    def surroundings(self) -> Surroundings:
        """What the page sees of locale, time zone, size and user agent."""
        return self._surroundings

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
    def own_proxy(self) -> OwnProxy | None:
        """The browser's one way out, if the login has a proxy of its own."""
        return self._own_proxy

    def proxy_problem(self) -> ProxyProblem | None:
        """Return what is wrong with the login's own proxy, if it has one."""
        return self._own_proxy.look() if self._own_proxy else None

    async def find_proxy_problem(self) -> ProxyProblem | None:
        """Find out whether the login's own proxy is what has failed."""
        return await self._own_proxy.look_now() if self._own_proxy else None

    @property
    def can_log_in(self) -> bool:
        """Whether the page is logged in by steps, without a person, where it shows that it is logged out."""
        return self._log_in is not None

    @asynccontextmanager
    async def shows_no_secret(self) -> AsyncIterator[None]:
        """Wait for the end of a login that is being done by steps, and begin no other one meanwhile."""
        async with self._log_in.may_show_secrets if self._log_in else nullcontext():
            yield

    @property
    def is_asleep(self) -> bool:
        """Whether its context was closed by `sleep`; `renew` opens another."""
        return self._is_asleep

    async def sleep(self) -> None:
        """Close the context with the page in it. What is to be kept of it has been saved. Raises TimeoutError."""
        self._is_asleep, self.is_fresh = True, False
        if self._tab:
            self._tab.retire()
        self._tab = None
        with suppress(Error):
            await leave_after(CLOSE_TIMEOUT_S, self.context.close(), "page-sleep")

    async def renew(self, state: StorageState) -> None:
        """Open the page, by all steps of `open`, in a new context with this login: what hangs is left behind.

        Raises as `open` does.
        """
        old = self.context
        renewing = self._new_context(self.browser, self._site, state, self._capture, self._surroundings)
        self.context = await within(NEW_TAB_TIMEOUT_S, renewing, "page-new-context")
        self._is_asleep = False
        self.state = state
        self.context.on("page", self._close_other)
        if self._tab:
            self._tab.retire()
        self._tab = None
        with suppress(Error, TimeoutError):
            await leave_after(CLOSE_TIMEOUT_S, old.close(), "page-old-context")
        await self.open()

    async def open_tab(self) -> Tab:
        """Open a tab in place of the one before, if any. Raises Playwright's Error and TimeoutError."""
        if self._tab and not self._tab.page.is_closed():
            await close_page(self._tab.page)
        self._opening += 1
        try:
            page = await self.context.new_page()
            await put_back_session_storage(page, self.state)
            self._tab = Tab(page, self._site, self._on_crash, capture=self._capture)
        finally:
            self._opening -= 1
        return self._tab

    @asynccontextmanager
    async def beside(self) -> AsyncIterator[Page]:
        """Open a page in the same context, with the same login, and close it at the end. Raises Error, TimeoutError."""
        opened: list[Page] = []
        try:
            await within(NEW_TAB_TIMEOUT_S, self._open_beside(opened), "page-beside")
            await put_back_session_storage(opened[0], self.state)
            yield opened[0]
        finally:
            for page in opened:
                await finish(close_page(page), "page-beside-close")

    async def _open_beside(self, opened: list[Page]) -> None:
        """Put a new page into the list, where also a caller that is cancelled meanwhile finds it."""
        self._opening += 1
        try:
            page = await self.context.new_page()
            opened.append(page)
            self._beside.add(page)
            page.once("close", self._beside_closed)
        finally:
            self._opening -= 1

    def _beside_closed(self, page: Page) -> None:
        self._beside.discard(page)

    @property
    def has_beside(self) -> bool:
        """Whether a page of `beside` is open."""
        return bool(self._beside)

    async def _close_other(self, page: Page) -> None:
        """Close a page that the site opened: nobody looks at it, and each takes a process of its own."""
        # A page that is opened by us is told from one that the site opens at the same moment once ours is there.
        while self._opening:  # noqa: ASYNC110 - it takes a moment, and the browser has no event for it
            await asyncio.sleep(OPENING_INTERVAL_S)
        if page not in self._beside and (self._tab is None or page is not self._tab.page):
            log.debug("popup_closed")
            await close_page(page)

    async def load(self, login_shows_within_s: float = LOOK_TIMEOUT_S) -> None:
        """Load the site's page. Raises SiteUnreachable, or PageBroken if it cannot be loaded for another reason.

        A page that goes on to another address by itself while it loads is no failure, if it then shows within the
        time given, in seconds, whether it is logged in.
        """
        if self._own_proxy:
            await self._own_proxy.check()
        try:
            await self.tab.load()
        except SiteUnreachable:
            # Whatever the browser shows in place of the page tells nothing of the login.
            if self._own_proxy:
                await self._own_proxy.check()  # it may have died meanwhile
            raise
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

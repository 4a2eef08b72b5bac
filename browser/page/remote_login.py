"""A headless browser in which a person far away logs in: its picture, what that person does, and the login it ends in.

Pictures are Playwright's screencast, in every engine. Only the newest is kept, and nothing of what is typed or shown is
written anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from playwright.async_api import BrowserContext, Error, Page, ScreencastFrame

from browser.errors import BrowserError, LoginNotSaved
from browser.page.login import ALREADY_IN_S, IN_MEMORY, NOTHING_SAVED, STEADY_S, state_that_holds, wait_logged_in
from browser.page.profile import StorageState
from browser.page.remote_input import Input, Size
from browser.page.site_page import SitePage
from browser.process.browser_process import BrowserProcess
from browser.process.own_proxy import own_proxy_of
from browser.settings import BrowserSettings, EngineName
from browser.site.schema import Site
from browser.timeouts import finish, within
from contract.proxies import parse_own_proxy
from contract.remote_login import LoginPhase, LoginState
from contract.surroundings import SurroundingsError, Viewport, read_surroundings

log = structlog.get_logger("browser")

JPEG_QUALITY = 60
LARGEST_PICTURE: Any = {"width": 1920, "height": 1920}  # otherwise Chromium's are made smaller than the page
_FIRST_SIZE = Viewport(width=1280, height=800)
SHOWN_WITHOUT_CHANGE_S = 0.1
ACT_TIMEOUT_S = 30.0
"""Shorter than what the coordinator waits for the answer."""
TITLE_TIMEOUT_S = 2.0
LONGEST_TITLE = 100
START_TIMEOUT_S = 10.0
START_AGAIN_S = 0.5
DONE_SHOWS_AFTER_S = STEADY_S + 2.0
NOT_YET = "the page does not show that it is logged in (site file: login.logged_in)"
NO_LOGIN_THERE = "there is nothing to log into (site file: login.none)"
ALREADY_IN = "the page counts as logged in although nobody has logged in (site file: login.logged_in)"


class RemoteLogin:
    """One browser on the site's login page, until it is logged in. Make it inside a running loop."""

    def __init__(self, site: Site, engine: EngineName, settings: BrowserSettings, run_dir: Path) -> None:
        """Read what this login has of its own. Raises SurroundingsError: without its proxy nothing is opened."""
        self._site = site
        self._own = read_surroundings(run_dir)
        try:
            proxy = parse_own_proxy(self._own.proxy) if self._own.proxy else None
        except ValueError as error:
            raise SurroundingsError(f"the login's proxy {error}") from None
        self._own_proxy = own_proxy_of(proxy, site.url, settings)
        self._process = BrowserProcess(
            engine=engine, headless=True, run_dir=run_dir, settings=settings, own_proxy=self._own_proxy
        )
        self._page: Page | None = None
        fixed = self._own.viewport or _FIRST_SIZE
        self._size = Size.model_construct(kind="size", width=fixed.width, height=fixed.height)
        self._changed, self._acted = asyncio.Event(), asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()  # the event loop holds only weak references to tasks
        self.state = LoginState()
        self.picture: bytes = b""
        self.picture_number = 0
        self.document: StorageState | None = None
        """What a new browser is logged in with; there as soon as the phase is SAVED."""

    async def run(self) -> None:
        """Open the login page, and wait until it is logged in. The state tells how it ended, errors of the page too."""
        try:
            self.document = await self._log_in()
            self._tell(phase=LoginPhase.SAVED, detail=None)
        except (BrowserError, Error, TimeoutError) as error:
            # A browser that dies closes its pages, which is what fails then.
            is_lost = self._process.lost is not None or not isinstance(error, BrowserError)
            detail = "the browser has ended; ask for a new link" if is_lost else str(error)
            log.warning("remote_login_failed", reason=getattr(error, "reason", "page_broken"))
            self._tell(phase=LoginPhase.FAILED, detail=detail)
        except Exception:  # the person shall not wait for what does not come
            log.exception("remote_login_broke")
            self._tell(phase=LoginPhase.FAILED, detail="an error in the program itself; its log has the place")
        finally:
            await finish(self._process.close(), "remote-login-close")

    async def _log_in(self) -> StorageState:
        if self._site.login.none:
            raise LoginNotSaved(NO_LOGIN_THERE)
        browser = await self._process.start()
        opened = await SitePage.in_new_context(
            browser, self._site, for_person=True, surroundings=self._own, own_proxy=self._own_proxy
        )
        opened.context.on("page", self._follow)
        await opened.open_tab()
        await opened.load(ALREADY_IN_S)
        if await opened.wait_for_login(ALREADY_IN_S) == "in":
            raise LoginNotSaved(f"{ALREADY_IN}; {NOTHING_SAVED}")
        self._tell(phase=LoginPhase.OPEN)
        await wait_logged_in(opened, self._site)
        self._tell(phase=LoginPhase.TRYING, detail=None)
        state = await state_that_holds(opened, self._site)
        if state is None:
            raise LoginNotSaved(IN_MEMORY)
        return state

    # What is shown

    def _follow(self, page: Page) -> None:
        """Show a page that was opened, such as a login in a popup; the one before it once that is closed."""
        page.on("close", lambda _: self._show(page.context))
        page.on("domcontentloaded", lambda _: self._soon(self._name(page), "remote-login-title"))
        self._show(page.context)

    def _show(self, context: BrowserContext) -> None:
        page = context.pages[-1] if context.pages else None
        if page is not None and page is not self._page:
            self._page = page
            self._soon(self._cast(page), "remote-login-cast")
            self._soon(self._name(page), "remote-login-title")

    def _soon(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # of a page that was closed before it could be shown

    async def _name(self, page: Page) -> None:
        title = await within(TITLE_TIMEOUT_S, page.title(), "remote-login-title")
        if page is self._page:
            self._tell(title=title[:LONGEST_TITLE])

    async def _cast(self, page: Page) -> None:
        has_come = asyncio.Event()

        async def take(frame: ScreencastFrame) -> None:
            has_come.set()
            if page is self._page:
                await self._take(page, frame)

        # Playwright does not tell that a start has failed: Chromium refuses one while a navigation changes the process.
        # A screenshot in its place would undo a change of size that comes meanwhile.
        while page is self._page and not page.is_closed() and not has_come.is_set():
            with suppress(Error, TimeoutError):
                await within(START_TIMEOUT_S, self._start(page, take), "remote-login-start")
            with suppress(TimeoutError):
                await asyncio.wait_for(has_come.wait(), START_AGAIN_S)

    async def _start(self, page: Page, take: Callable[[ScreencastFrame], Coroutine[Any, Any, None]]) -> None:
        await self._size.do(page)
        await page.bring_to_front()  # Chromium draws nothing of a page that was behind a popup
        with suppress(Error):  # it was shown before that popup: only a new start shows it again
            await page.screencast.stop()
        await page.screencast.start(on_frame=take, quality=JPEG_QUALITY, size=LARGEST_PICTURE)

    async def _take(self, page: Page, frame: ScreencastFrame) -> None:
        """Keep a frame in place of the one before. The next comes when this returns."""
        if frame["data"] == self.picture:
            # Firefox takes 25 pictures a second of a page on which nothing moves.
            self._acted.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._acted.wait(), SHOWN_WITHOUT_CHANGE_S)
            return
        self._keep(page, frame["data"], frame["viewportWidth"], frame["viewportHeight"])

    def _keep(self, page: Page, picture: bytes, width: int, height: int) -> None:
        self.picture = picture
        self.picture_number += 1
        seen = {"host": urlsplit(page.url).netloc, "width": width, "height": height}
        if any(getattr(self.state, name) != value for name, value in seen.items()):
            self._tell(**seen)
        self._notify()

    def _tell(self, **changes: Any) -> None:
        self.state = replace(self.state, number=self.state.number + 1, **changes)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, holds: Callable[[], bool], timeout_s: float) -> bool:
        """Wait up to timeout_s seconds until something about picture and state holds; return whether it does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not holds():
                    await self._changed.wait()
        return holds()

    # What is done

    async def act(self, inputs: list[Input]) -> None:
        """Do what the person did, in this order, after all that came before.

        Where the page hangs, what follows is dropped: a password that was typed after a click which has not been taken
        would stand in another field.
        """
        async with self._one_at_a_time:
            for one in inputs:
                page = self._page
                if page is None or self.state.phase.is_final:
                    return
                if isinstance(one, Size):
                    if self._own.viewport is not None:
                        continue
                    self._size = one
                self._acted.set()
                try:
                    await within(ACT_TIMEOUT_S, one.do(page), "remote-login-act")
                except TimeoutError:
                    log.warning("remote_login_input_dropped", reason="page_hangs")
                    return
                except Error:
                    continue  # the page has closed, or has nothing to go back to

    async def done(self) -> None:
        """Say so if the page does not show within seconds that it is logged in."""
        if not await self.wait_for(lambda: self.state.phase is not LoginPhase.OPEN, DONE_SHOWS_AFTER_S):
            self._tell(detail=NOT_YET)

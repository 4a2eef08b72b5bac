"""Capturing a login: a person logs in in a browser that can be seen, and what the browser then knows is saved."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Error, Page

from browser.errors import BrowserLost, EngineMissing, LoginNotSaved, PageBroken, SavePlaceError
from browser.page.profile import StorageState
from browser.page.tab import Hung, Tab
from browser.process.browser_process import BrowserHost
from browser.settings import BrowserSettings, EngineName
from browser.site.schema import Site
from browser.timeouts import finish, within
from contract.errors import BadProfile
from contract.files import create_private, write_private
from contract.storage_state.schema import NOTHING_STORED
from contract.storage_state.summary import ProfileSummary

LOOK_INTERVAL_S = 0.25
STEADY_S = 1.0  # a page may show the account before it has kept all of the login
ALREADY_IN_S = 5.0  # no person is faster
SAVE_TIMEOUT_S = 10.0
NOTHING_SAVED = "nothing was saved"
CLOSED = f"the window was closed before anybody had logged in; {NOTHING_SAVED}"

NO_DISPLAY = (
    "there is no display to show a browser on (neither DISPLAY nor WAYLAND_DISPLAY is set); run this on a computer "
    "with a screen and copy the file it saves to this one, or come here by ssh -X; docs/sites.md tells more ways"
)


@dataclass(frozen=True)
class SavedLogin:
    """What was saved; `expires_at` in Unix seconds, None if no cookie says so."""

    cookies: int
    origins: int
    expires_at: float | None


@dataclass(frozen=True)
class LoginPlan:
    """Where a person logs in, and where the login goes. A file that is there is kept unless `replace` is set."""

    site: Site
    path: Path
    replace: bool
    engine: EngineName
    settings: BrowserSettings


async def capture_login(plan: LoginPlan, run_dir: Path, on_open: Callable[[], None]) -> SavedLogin:
    """Show the site's page, wait until a person has logged in, and save the login, mode 0600.

    `on_open` is called once the page can be seen. The wait has no end of its own: cancel it, and nothing is
    saved. Raises SavePlaceError, EngineMissing, BrowserLost, PageBroken, and LoginNotSaved where the window was
    closed, or where there is nothing that a file could keep.
    """
    prepare_place(plan)
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise EngineMissing(NO_DISPLAY)
    host = BrowserHost(engine=plan.engine, headless=False, run_dir=run_dir, settings=plan.settings)
    try:
        window = await LoginWindow.open(await host.start(), plan.site)
        on_open()
        await window.logged_in()
        return _save(plan, await window.state())
    except (Error, BrowserLost):
        if host.lost or await host.is_lost_soon():
            raise LoginNotSaved(CLOSED) from None
        raise
    finally:
        await finish(host.close(), "login-close")


def prepare_place(plan: LoginPlan) -> None:
    """See that the login can be saved before anybody takes the trouble to log in. Raises SavePlaceError."""
    path = plan.path
    if path.suffix != ".json" or path.name.startswith("."):
        raise SavePlaceError(f"--save {path}: must be a name that ends in .json: no other files are taken for logins")
    if (path.exists() or path.is_symlink()) and not plan.replace:
        raise SavePlaceError(f"--save {path}: is there already; give another name, or --replace to replace it")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SavePlaceError(f"--save {path}: its folder cannot be made: {error.strerror}") from None
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        raise SavePlaceError(f"--save {path}: cannot be written to")


class LoginWindow:
    """The browser that the person sees: the site's page, and whatever else is opened on the way."""

    def __init__(self, context: BrowserContext, site: Site) -> None:
        self._context = context
        self._site = site
        self._tabs: dict[Page, Tab] = {}

    @classmethod
    async def open(cls, browser: Browser, site: Site) -> "LoginWindow":
        """Show the site's page. Raises PageBroken, and LoginNotSaved if that counts as logged in already."""
        window = cls(await browser.new_context(no_viewport=True), site)
        tab = window._tab(await window._context.new_page())
        try:
            await tab.load()
        except PageBroken:  # perhaps only because the page itself went on to another address
            if await tab.settle(ALREADY_IN_S) == "unknown":
                raise
        if await tab.settle(ALREADY_IN_S) == "in":
            raise LoginNotSaved(
                "the page counts as logged in although nobody has logged in (site file: login.logged_in); "
                f"{NOTHING_SAVED}"
            )
        return window

    def _tab(self, page: Page) -> Tab:
        if page not in self._tabs:
            self._tabs[page] = Tab(page, self._site, lambda: None)
        return self._tabs[page]

    async def logged_in(self) -> None:
        """Return once a page of the site has shown for a while that it is logged in. Raises LoginNotSaved."""
        since: float | None = None
        while True:
            if not self._context.pages:
                raise LoginNotSaved(CLOSED)
            since = (since or time.monotonic()) if await self._shows_login() else None
            if since and time.monotonic() - since >= STEADY_S:
                return
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _shows_login(self) -> bool:
        for page in self._context.pages:
            if not page.url.startswith(f"{self._site.origin}/"):  # on a page elsewhere the markers say nothing
                continue
            with suppress(Hung, Error):
                look = await self._tab(page).look()
                if look and look.logged_in and not look.logged_out:
                    return True
        return False

    async def state(self) -> StorageState:
        """Return the browser's cookies and localStorage. Raises LoginNotSaved if no start could use them."""
        try:
            state: StorageState = {**await within(SAVE_TIMEOUT_S, self._context.storage_state(), "login-state")}
        except TimeoutError:
            raise LoginNotSaved(f"the browser does not tell what it knows of the login; {NOTHING_SAVED}") from None
        try:
            ProfileSummary.of(state)
        except BadProfile as error:
            why = f"no start could use what the browser holds of the login: it {error.reason}"
            if error.reason == NOTHING_STORED:
                why = "the login is neither in cookies nor in localStorage, and a file holds no more"
            raise LoginNotSaved(f"{why}; {NOTHING_SAVED}") from None
        return state


def _save(plan: LoginPlan, state: StorageState) -> SavedLogin:
    write = write_private if plan.replace else create_private
    try:
        write(plan.path, json.dumps(state, indent=2, ensure_ascii=False).encode())
    except FileExistsError:
        raise SavePlaceError(f"--save {plan.path}: is there by now, and is not replaced; {NOTHING_SAVED}") from None
    except OSError as error:
        raise SavePlaceError(f"--save {plan.path}: cannot be written: {error.strerror}; {NOTHING_SAVED}") from None
    cookies, origins = (len(state.get(key, [])) for key in ("cookies", "origins"))
    host = urlsplit(plan.site.url).hostname
    return SavedLogin(cookies, origins, ProfileSummary.of(state).expires_at(time.time(), host))

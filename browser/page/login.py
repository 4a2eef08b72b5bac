"""`--login`: a person logs in in a visible browser, and its cookies and localStorage are saved."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import Error, Page

from browser.errors import BrowserLost, EngineMissing, LoginNotSaved, PageHung, SavePlaceError
from browser.page.profile import storable
from browser.page.site_page import SitePage
from browser.page.tab import Tab
from browser.process.browser_process import BrowserProcess
from browser.settings import BrowserSettings, EngineName
from browser.site.schema import Site
from browser.timeouts import finish, within
from contract.errors import BadProfile, reasons_only
from contract.files import create_private, write_private
from contract.storage_state.schema import NOTHING_STORED
from contract.storage_state.summary import ProfileSummary

LOOK_INTERVAL_S = 0.25
STEADY_S = 1.0  # a page may show the account before it has stored all of the login
ALREADY_IN_S = 5.0  # no person logs in faster
SAVE_TIMEOUT_S = 10.0
NOTHING_SAVED = "nothing was saved"
CLOSED = f"the window was closed before anybody had logged in; {NOTHING_SAVED}"

NO_DISPLAY = (
    "there is no display to show a browser on (neither DISPLAY nor WAYLAND_DISPLAY is set); run this on a computer "
    "with a screen and copy the file it saves to this one, or come here by ssh -X; docs/sites.md tells more ways"
)


@dataclass(frozen=True)
class SavedLogin:
    """How much was saved; `expires_at` in Unix seconds, None if no cookie says it."""

    cookies: int
    origins: int
    expires_at: float | None


@dataclass(frozen=True)
class LoginPlan:
    """Where a person logs in, and the file to save the login to; one that is there is kept unless `replace` is set."""

    site: Site
    path: Path
    replace: bool
    engine: EngineName
    settings: BrowserSettings


async def capture_login(plan: LoginPlan, run_dir: Path, on_open: Callable[[], None]) -> SavedLogin:
    """Show the site's page, wait until a person has logged in, and save the login, mode 0600.

    `on_open` is called once the page can be seen. The wait has no timeout of its own: cancel it, and nothing is
    saved. Raises SavePlaceError, EngineMissing, BrowserLost, PageBroken, and LoginNotSaved where the window was
    closed, or where there is nothing that a file could hold.
    """
    check_destination(plan)
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise EngineMissing(NO_DISPLAY)
    process = BrowserProcess(engine=plan.engine, headless=False, run_dir=run_dir, settings=plan.settings)
    try:
        page = await SitePage.in_new_context(await process.start(), plan.site, for_person=True)
        await page.open_tab()
        await page.load(ALREADY_IN_S)
        if await page.wait_for_login(ALREADY_IN_S) == "in":
            raise LoginNotSaved(
                "the page counts as logged in although nobody has logged in (site file: login.logged_in); "
                f"{NOTHING_SAVED}"
            )
        on_open()
        await _wait_logged_in(page, plan.site)
        return await _save_login(page, plan)
    except (Error, BrowserLost):
        # A closed window ends the browser, and whatever was being done with it fails.
        if process.lost or await process.is_lost_soon():
            raise LoginNotSaved(CLOSED) from None
        raise
    finally:
        await finish(process.close(), "login-close")


def check_destination(plan: LoginPlan) -> None:
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


async def _wait_logged_in(opened: SitePage, site: Site) -> None:
    """Return once a page of the site has shown for STEADY_S seconds that it is logged in. Raises LoginNotSaved.

    Any page counts: a login may go through popups, or end in another tab than it began in.
    """
    tabs: dict[Page, Tab] = {}

    async def shows_login(page: Page) -> bool:
        if not page.url.startswith(f"{site.origin}/"):  # on a page elsewhere the markers mean nothing
            return False
        tab = tabs.get(page) or tabs.setdefault(page, Tab(page, site))
        with suppress(PageHung):
            seen = await tab.look()
            return bool(seen and seen.logged_in and not seen.logged_out)
        return False

    since: float | None = None
    while True:
        if not opened.context.pages:
            raise LoginNotSaved(CLOSED)
        is_in = False
        for page in opened.context.pages:
            is_in = is_in or await shows_login(page)
        since = (since or time.monotonic()) if is_in else None
        if since and time.monotonic() - since >= STEADY_S:
            return
        await asyncio.sleep(LOOK_INTERVAL_S)


async def _save_login(page: SitePage, plan: LoginPlan) -> SavedLogin:
    """Save the browser's cookies and localStorage. Raises SavePlaceError, LoginNotSaved if no start could use them."""
    try:
        state = storable({**await within(SAVE_TIMEOUT_S, page.context.storage_state(), "login-state")})
    except TimeoutError:
        raise LoginNotSaved(f"the browser does not tell what it knows of the login; {NOTHING_SAVED}") from None
    try:
        with reasons_only():
            summary = ProfileSummary.of(state)
    except BadProfile as error:
        why = f"no start could use what the browser holds of the login: it {error.reason}"
        if error.reason == NOTHING_STORED:
            why = "the login is neither in cookies nor in localStorage, and a file holds no more"
        raise LoginNotSaved(f"{why}; {NOTHING_SAVED}") from None
    write = write_private if plan.replace else create_private
    try:
        write(plan.path, json.dumps(state, indent=2, ensure_ascii=False).encode())
    except FileExistsError:
        raise SavePlaceError(f"--save {plan.path}: is there by now, and is not replaced; {NOTHING_SAVED}") from None
    except OSError as error:
        raise SavePlaceError(f"--save {plan.path}: cannot be written: {error.strerror}; {NOTHING_SAVED}") from None
    cookies, origins = (len(state.get(key, [])) for key in ("cookies", "origins"))
    return SavedLogin(cookies, origins, summary.expires_at(time.time(), urlsplit(plan.site.url).hostname))

"""`--login`: a person logs in in a visible browser, or the site file's steps do, and what a new browser needs is saved.

What is saved has been tried: a second context was opened with it, and was logged in.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import Error, Page

from browser.errors import (
    BrowserLost,
    EngineMissing,
    LoginNotSaved,
    LoginRefused,
    PageBroken,
    PageHung,
    ProfileError,
    SavePlaceError,
)
from browser.page.login_steps import StepLogin
from browser.page.profile import StorageState, load_profile, storable
from browser.page.site_page import SitePage
from browser.page.storage import read_storage
from browser.page.tab import Tab
from browser.process.browser_process import BrowserProcess
from browser.process.own_proxy import own_proxy_of
from browser.settings import BrowserSettings, EngineName
from browser.site.schema import Site
from browser.timeouts import finish
from contract.errors import BadProfile, reasons_only
from contract.files import create_private, write_private
from contract.proxies import Proxy
from contract.storage_state.summary import NO_LOGIN, ProfileSummary

LOOK_INTERVAL_S = 0.25
STEADY_S = 1.0  # a page may show the account before it has stored all of the login
ALREADY_IN_S = 5.0  # no person logs in faster
SAVE_TIMEOUT_S = 10.0
NOTHING_SAVED = "nothing was saved"
CLOSED = f"the window was closed before anybody had logged in; {NOTHING_SAVED}"

NO_DISPLAY = (
    "there is no display to show a browser on (neither DISPLAY nor WAYLAND_DISPLAY is set); run this on a computer "
    "with a screen and copy the file it saves to this one, or come here by ssh -X, or have the site file's login.steps "
    'log in (docs/sites.md, "Logging in")'
)
IN_MEMORY = (
    "the login does not hold in a new browser: it lives in the page's memory alone, and no file can hold it; have each "
    f'start log in by itself, by login.steps (docs/sites.md, "Logging in"); {NOTHING_SAVED}'
)


@dataclass(frozen=True)
class SavedLogin:
    """How much was saved; `expires_at` in Unix seconds, None if no cookie says it.

    `holds`: a new browser is logged in with it; otherwise each start logs in anew by the site file's steps.
    """

    cookies: int
    origins: int
    expires_at: float | None
    holds: bool


@dataclass(frozen=True)
class LoginPlan:
    """Where a person logs in, and the file to save the login to; one that is there is kept unless `replace` is set."""

    site: Site
    path: Path
    replace: bool
    engine: EngineName
    settings: BrowserSettings
    proxy: Proxy | None = None


def save_no_login(plan: LoginPlan) -> None:
    """Save an empty profile, for a site without a login. Raises SavePlaceError."""
    check_destination(plan)
    _write(plan, {"cookies": [], "origins": []})


async def capture_login(plan: LoginPlan, run_dir: Path, on_open: Callable[[bool], None]) -> SavedLogin:
    """Show the site's page, wait until it is logged in, and save the login, mode 0600.

    Where the file that is replaced holds the secrets that the site file's steps fill in, those log in, and no display
    is needed; its secrets are kept in any case. `on_open` is called once the page can be seen, with whether a person
    is to log in. That wait has no timeout of its own: cancel it, and nothing is saved. Raises SavePlaceError,
    EngineMissing, BrowserLost, PageBroken, and LoginNotSaved where the window was closed, or where a new browser
    would not be logged in with what can be saved.
    """
    check_destination(plan)
    secrets = _kept_secrets(plan.path)
    by_steps = bool(plan.site.login.steps) and plan.site.secrets <= secrets.keys()
    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if not (has_display or by_steps):
        raise EngineMissing(NO_DISPLAY)
    own_proxy = own_proxy_of(plan.proxy, plan.site.url, plan.settings)
    process = BrowserProcess(
        engine=plan.engine,
        headless=not has_display,
        run_dir=run_dir,
        settings=plan.settings,
        own_proxy=own_proxy,
    )
    try:
        browser = await process.start()
        page = await SitePage.in_new_context(browser, plan.site, for_person=True, own_proxy=own_proxy)
        await page.open_tab()
        await page.load(ALREADY_IN_S)
        if await page.wait_for_login(ALREADY_IN_S) == "in":
            raise LoginNotSaved(
                "the page counts as logged in although nobody has logged in (site file: login.logged_in); "
                f"{NOTHING_SAVED}"
            )
        on_open(not by_steps)
        if by_steps:
            await _log_in_by_steps(page, secrets)
        else:
            await wait_logged_in(page, plan.site)
        state = await state_that_holds(page, plan.site)
        if state is None and not by_steps:
            raise LoginNotSaved(IN_MEMORY)
        return _save_login(state, secrets, plan)
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


async def wait_logged_in(opened: SitePage, site: Site) -> None:
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


def _kept_secrets(path: Path) -> Mapping[str, str]:
    """Return the secrets of the file that is to be replaced; none where it is no profile, or not there."""
    try:
        return load_profile(path).secrets
    except ProfileError:
        return {}


async def _log_in_by_steps(page: SitePage, secrets: Mapping[str, str]) -> None:
    try:
        await StepLogin(secrets).run(page.tab)
    except (LoginRefused, PageBroken) as error:
        raise LoginNotSaved(f"{error}; {NOTHING_SAVED}") from None


async def state_that_holds(page: SitePage, site: Site) -> StorageState | None:
    """Return a storage_state with which a new context is logged in, as that one has it then; None if there is none.

    Raises LoginNotSaved if it cannot be found out.
    """
    state = await _state_of(page, site)
    if ProfileSummary.of(state).fingerprint == NO_LOGIN:
        return None
    other = await page.with_login(state)
    try:
        await other.open_tab()
        await other.load()
        # Some sites give a new token for each that is used, after which the old one is worth nothing.
        return await _state_of(other, site) if await other.wait_for_login() == "in" else None
    except PageBroken as error:
        raise LoginNotSaved(f"the login could not be tried in a new browser: {error}; {NOTHING_SAVED}") from None
    finally:
        with suppress(Error):
            await other.context.close()


async def _state_of(page: SitePage, site: Site) -> StorageState:
    """Return what the browser knows of the login. Raises LoginNotSaved if no start could use it."""
    try:
        read = await read_storage(page.context, site.url, page.state, timeout_s=SAVE_TIMEOUT_S, everywhere=True)
        state = storable(read.state)
        with reasons_only():
            ProfileSummary.of(state)
    except TimeoutError:
        raise LoginNotSaved(f"the browser does not tell what it knows of the login; {NOTHING_SAVED}") from None
    except BadProfile as error:
        why = f"no start could use what the browser holds of the login: it {error.reason}"
        raise LoginNotSaved(f"{why}; {NOTHING_SAVED}") from None
    return state


def _save_login(state: StorageState | None, secrets: Mapping[str, str], plan: LoginPlan) -> SavedLogin:
    """Save the login, with the secrets, if any. Raises SavePlaceError."""
    kept = state or {"cookies": [], "origins": []}
    _write(plan, {**kept, "secrets": dict(secrets)} if secrets else kept)
    cookies, origins = (len(kept.get(key, [])) for key in ("cookies", "origins"))
    expires_at = ProfileSummary.of(kept).expires_at(time.time(), urlsplit(plan.site.url).hostname)
    return SavedLogin(cookies, origins, expires_at, holds=state is not None)


def _write(plan: LoginPlan, content: StorageState) -> None:
    write = write_private if plan.replace else create_private
    try:
        write(plan.path, json.dumps(content, indent=2, ensure_ascii=False).encode())
    except FileExistsError:
        raise SavePlaceError(f"--save {plan.path}: is there by now, and is not replaced; {NOTHING_SAVED}") from None
    except OSError as error:
        raise SavePlaceError(f"--save {plan.path}: cannot be written: {error.strerror}; {NOTHING_SAVED}") from None

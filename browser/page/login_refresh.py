"""Keeping an idle login alive by the site file's `login.refresh`: when it is due, how it is done, what came of it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from playwright.async_api import Error, Page, Request

from browser.capture import scripts
from browser.errors import LoginExpired, PageBroken, PageHung, RefreshFailed, SiteUnreachable
from browser.page.login_watch import LoginWatch
from browser.page.page_status import RefreshStatus
from browser.page.site_page import SitePage
from browser.page.tab import GRACE_S, Tab
from browser.site.schema import Refresh
from browser.timeouts import within
from contract.toml_lines import Path

log = structlog.get_logger("browser")

REFRESH: Path = ("login", "refresh")
EVERY_JITTER = 0.1
BEFORE_EXPIRY_JITTER = 0.2
FIRST_WITHIN_S = 60.0
"""A child that starts does not know when its login was refreshed last: it does so soon, but a fleet not as one."""
RETRY_S = 30.0
LAST_RETRY_S = 3600.0
QUIET_FOR_S = 0.5
QUIET_WITHIN_S = 5.0
RETURNS_WITHIN_S = 2.0
"""How long the chat page may take to be on an empty conversation again after steps that were done on it."""


class RefreshTimes:
    """When the next refresh is due, in Unix seconds. Chance is an argument: a seeded one gives the same times."""

    def __init__(self, refresh: Refresh, now: float, rand: Callable[[], float] = random.random) -> None:
        """`now` is when the child starts; `rand` gives numbers from 0 to 1."""
        self._refresh = refresh
        self._rand = rand
        self._shortest_s = min(refresh.every_s or math.inf, refresh.before_expiry_s or math.inf)
        self._not_before = now + rand() * min(FIRST_WITHIN_S, EVERY_JITTER * self._shortest_s)
        self._refreshed_at: float | None = None
        self._share = rand()
        self.failures = 0
        """How many in a row have failed."""

    def due_at(self, expires_at: float | None) -> float:
        """Return when the next one is due, where the login expires at expires_at; endless if nothing says so."""
        if self.failures:
            return self._not_before
        refresh, last = self._refresh, self._refreshed_at
        times = []
        if refresh.every_s is not None:
            times.append(0.0 if last is None else last + refresh.every_s * (1 - EVERY_JITTER * self._share))
        if refresh.before_expiry_s is not None and expires_at is not None:
            due = expires_at - refresh.before_expiry_s * (1 + BEFORE_EXPIRY_JITTER * self._share)
            # A login may be shorter than before_expiry_s, and would be refreshed without a pause.
            times.append(due if last is None else max(due, (last + expires_at) / 2))
        return max(self._not_before, min(times, default=math.inf))

    def succeed(self, now: float) -> None:
        """Take down that the login was refreshed."""
        self.failures, self._refreshed_at, self._share = 0, now, self._rand()

    def fail(self, now: float) -> float:
        """Take down that it was not, and return after how many seconds it is tried again: longer each time."""
        first_s = min(RETRY_S, self._shortest_s)
        retry_s = min(first_s * 2.0 ** min(self.failures, 20), LAST_RETRY_S) * (1 + EVERY_JITTER * self._rand())
        self.failures += 1
        self._not_before = now + retry_s
        return retry_s


class LoginRefresh:
    """Refreshes the login of a page that is idle. Whoever calls `run` sees to it that nobody else uses the page."""

    def __init__(
        self,
        page: SitePage,
        login: LoginWatch,
        refresh: Refresh,
        place: Callable[[Path], str],
        rand: Callable[[], float] = random.random,
    ) -> None:
        """`place` says where a key stands in the site file."""
        self._page, self._login, self._refresh, self._place = page, login, refresh, place
        self._times = RefreshTimes(refresh, time.time(), rand)
        self._refreshed = self._failed = 0
        self._warning: str | None = None

    @property
    def is_due(self) -> bool:
        """Whether it is time to refresh the login."""
        return time.time() >= self._times.due_at(self._login.expires_at)

    @property
    def status(self) -> RefreshStatus:
        """What came of it so far."""
        expires_at = self._login.expires_at
        in_time = expires_at is None or self._times.due_at(expires_at) < expires_at
        keeps = in_time and not self._times.failures
        return RefreshStatus(self._refreshed, self._failed, keeps, self._warning)

    async def run(self, recover: Callable[[], Awaitable[None]]) -> None:
        """Refresh the login and save it; what fails is logged and counted.

        `recover` loads the chat page anew: where the steps have left it, and where the site may say that the login is
        lost, which is found out by that.
        """
        expired_at = self._login.expires_at
        failure: RefreshFailed | None = None
        did = ""
        await self._login.save_cookies()
        try:
            did = await refresh_login(self._page, self._refresh)
        except RefreshFailed as error:
            failure = error
        holds = await self._login.holds()
        may_be_lost = bool(failure and failure.logged_out) or holds is False
        if may_be_lost or not (self._refresh.has_own_tab or self._refresh.fetch or await _is_fresh(self._page)):
            await recover()
        await self._login.save(confirmed=holds is True)
        if failure is None and self._is_as_before(expired_at):
            failure = RefreshFailed(f"{did}, and the login expires when it did before", REFRESH)
        if failure is None:
            self._times.succeed(time.time())
            self._refreshed += 1
            self._warning = None
            log.info("login_refreshed", how=did, expires_at=self._login.expires_at)
        else:
            self._note(failure)

    def _is_as_before(self, expired_at: float | None) -> bool:
        """Return whether a login that was about to expire still is."""
        before_s, expires_at = self._refresh.before_expiry_s, self._login.expires_at
        if before_s is None or expired_at is None or expires_at is None:
            return False
        was_about_to = time.time() > expired_at - before_s * (1 + BEFORE_EXPIRY_JITTER)
        return was_about_to and expires_at <= expired_at

    def _note(self, failure: RefreshFailed) -> None:
        retry_s = self._times.fail(time.time())
        self._failed += 1
        place, key = self._place(failure.path), key_of(failure.path)
        in_a_row = self._times.failures
        log.warning(
            "login_not_refreshed", reason=str(failure), place=place, key=key, in_a_row=in_a_row, retry_s=round(retry_s)
        )
        times = "" if in_a_row == 1 else f", {in_a_row} times in a row"
        self._warning = f"the login was not refreshed{times}: look at {place} ({key}), and at the child's log"


def key_of(path: Path) -> str:
    """Return a path in a site file as its messages write it."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


async def refresh_login(page: SitePage, refresh: Refresh) -> str:
    """Refresh the login once, and return what was done in words. Raises RefreshFailed."""
    try:
        deadline = asyncio.get_running_loop().time() + refresh.timeout_s
        return await within(refresh.timeout_s + GRACE_S, _refresh(page, refresh, deadline), "login-refresh")
    except TimeoutError:
        raise RefreshFailed(f"it took longer than {refresh.timeout_s:g} s", (*REFRESH, "timeout_s")) from None
    except Error:
        raise RefreshFailed("the page went away meanwhile", REFRESH) from None


async def _refresh(page: SitePage, refresh: Refresh, deadline: float) -> str:
    if refresh.fetch is not None:
        return await _fetch(page.tab, refresh, refresh.fetch)
    async with AsyncExitStack() as stack:
        tab = page.tab
        if refresh.has_own_tab:
            tab = Tab(await stack.enter_async_context(page.beside()), tab.site)
        async with _until_quiet(tab.page):
            did = await (_do_steps(tab, refresh) if refresh.visit is None else _visit(tab, refresh.visit))
        await _require_success(tab, refresh, deadline)
        return did


async def _fetch(tab: Tab, refresh: Refresh, address: str) -> str:
    try:
        status: int = await tab.page.evaluate(scripts.REQUEST_STATUS, [tab.site.address(address), refresh.method])
    except Error:
        raise RefreshFailed(f"the page gets no response from {address}", (*REFRESH, "fetch")) from None
    is_success = status in refresh.done_status if refresh.done_status else 200 <= status < 300
    if not is_success:
        check = tab.site.login.check
        logged_out = status in (check.expired_status if check else (401, 403))
        raise RefreshFailed(f"{address} is answered with status {status}", (*REFRESH, "fetch"), logged_out=logged_out)
    return f"{refresh.method} {address} says {status}"


async def _visit(tab: Tab, address: str) -> str:
    path: Path = (*REFRESH, "visit")
    try:
        # Without a limit of its own: the refresh as a whole has one.
        response = await tab.page.goto(tab.site.address(address), wait_until="load", timeout=0)
    except Error:
        raise RefreshFailed(f"{address} cannot be loaded", path) from None
    if response is not None and response.status >= 400:
        logged_out = response.status in (401, 403)
        raise RefreshFailed(f"{address} is answered with status {response.status}", path, logged_out=logged_out)
    return f"{address} was loaded"


async def _do_steps(tab: Tab, refresh: Refresh) -> str:
    if refresh.own_tab:
        try:
            await tab.load()
        except PageBroken as error:
            raise RefreshFailed(str(error), ("url",)) from None
        if await tab.wait_for_login(tab.site.readiness.timeout_s) == "out":
            raise RefreshFailed("the site shows its login page", REFRESH, logged_out=True)
    for at, step in enumerate(refresh.steps):
        try:
            await tab.run((step,))
        except PageBroken as error:
            with_login = not isinstance(error, SiteUnreachable) and await _shows_logout(tab)
            raise RefreshFailed(str(error), (*REFRESH, "steps", at), logged_out=with_login) from None
    return f"{len(refresh.steps)} steps were done"


async def _require_success(tab: Tab, refresh: Refresh, deadline: float) -> None:
    """Raise RefreshFailed unless the tab shows that the login is refreshed."""
    if refresh.done:
        # The same looks as for a login, with other markers.
        done = tab.site.login.model_copy(update={"logged_in": refresh.done})
        looker = Tab(tab.page, tab.site.model_copy(update={"login": done}))
        path: Path = (*REFRESH, "done")
        try:
            rest_s = max(QUIET_FOR_S, deadline - asyncio.get_running_loop().time())
            is_done = await looker.wait_until(lambda seen: seen.logged_in, rest_s)
        except PageBroken as error:
            raise RefreshFailed(str(error), path) from None
        if not is_done:
            raise RefreshFailed("no marker of done holds", path, logged_out=await _shows_logout(tab))
    elif await _shows_logout(tab):
        raise RefreshFailed("the site shows its login page", REFRESH, logged_out=True)


async def _shows_logout(tab: Tab) -> bool:
    try:
        seen = await tab.look()
    except (PageHung, PageBroken):
        return False
    return bool(seen and seen.shows_logout)


async def _is_fresh(page: SitePage) -> bool:
    """Return whether the chat page is on an empty conversation."""
    try:
        return await page.tab.wait_until(page.tab.is_fresh, RETURNS_WITHIN_S)
    except (LoginExpired, PageBroken, Error):
        return False


@asynccontextmanager
async def _until_quiet(page: Page) -> AsyncIterator[None]:
    """Do what is in the block, and wait for the end of the requests that it caused: their answers hold the cookies."""
    now = asyncio.get_running_loop().time
    running: set[Request] = set()
    changed_at = now()

    def begin(request: Request) -> None:
        nonlocal changed_at
        changed_at = now()
        running.add(request)

    def end(request: Request) -> None:
        nonlocal changed_at
        changed_at = now()
        running.discard(request)

    events = {"request": begin, "requestfinished": end, "requestfailed": end}
    for event, note in events.items():
        page.on(event, note)  # type: ignore[call-overload]
    try:
        yield
        changed_at, latest = now(), now() + QUIET_WITHIN_S
        while now() < latest and (running or now() - changed_at < QUIET_FOR_S):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(QUIET_FOR_S / 10)
    finally:
        for event, note in events.items():
            page.remove_listener(event, note)

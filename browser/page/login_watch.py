"""Whether the login still holds, and keeping it: ask the site now and then, save the session that it rotates."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from playwright.async_api import BrowserContext, Error

from browser.errors import (
    BrowserError,
    BrowserLost,
    CaptureGap,
    FirstTokenTimeout,
    LoginExpired,
    LoginRefused,
    PageBroken,
    PageHung,
    PromptRejected,
    SiteFailed,
    StreamIdleTimeout,
)
from browser.page.login_check import AWAY_AFTER_CHECKS, LoginCheck
from browser.page.page_status import PageStatus
from browser.page.profile import LoadedProfile, StorageState, login_part, save_session, state_to_open, storable
from browser.page.session_report import SessionLog
from browser.page.site_page import SitePage
from browser.page.storage import read_storage
from browser.timeouts import within
from contract.claim_deadline import NO_FENCE, ClaimDeadline
from contract.errors import BadProfile, reasons_only
from contract.storage_state.document import MAX_PROFILE_BYTES, TOO_LARGE
from contract.storage_state.schema import NOTHING_STORED
from contract.storage_state.summary import NO_LOGIN, ProfileSummary

log = structlog.get_logger("browser")

SAVE_TIMEOUT_S = 2.0
FILE_OVERHEAD_BYTES = 64 * 1024
SAVE_AFTER_S = 1.0
LOGIN_SHOWS_AFTER_S = 1.0
CHECK_AGAIN_S = 2.0
"""How soon a check that had no answer is made again, where the interval is not shorter anyway."""
SYMPTOMS = (CaptureGap, FirstTokenTimeout, PageBroken, PromptRejected, SiteFailed, StreamIdleTimeout)
"""Errors that a lost login may first show as: the site fails, or does not answer, or shows another page."""


SAVE_SHARE = 0.1
"""How much of the time may go into saving after answers, which takes as long as the databases are large."""


class SessionKeeper:
    """Saves a login's storage where it changed. Only call `save` and `save_cookies` when logged in.

    What is poorer than what was saved last does not replace it: storage without any login in it; no cookie left, or
    none that scripts cannot read and the site gets, though those saved are still valid, unless the site itself has just
    said that the login holds, or a stored token could be the login. A database that cannot be read, and the storage
    of a document that does not answer, stay as they were.

    Reads may overlap, and one that began earlier end later: a page that is busy with the next prompt answers late. What
    was read later is newer, and stays.
    """

    def __init__(  # noqa: PLR0913 - what it keeps, where, and who is told
        self,
        profile: LoadedProfile,
        state: StorageState,
        run_dir: Path,
        url: str,
        *,
        session_log: SessionLog | None = None,
        expires_by: Collection[str] = (),
        claim: ClaimDeadline = NO_FENCE,
    ) -> None:
        """`state` is what the context was opened with; `url` and `expires_by` are the site file's.

        `session_log` is told of each save. Nothing is saved after the end of `claim`.
        """
        self._claim = claim
        self._log = session_log or SessionLog()
        self._expires_by = expires_by
        self._ends = ProfileSummary.of(login_part(state, expires_by))
        self._profile = profile
        self._run_dir = run_dir
        self._url = url
        self._host = urlsplit(url).hostname or ""
        self._summary = ProfileSummary.of(state)
        self.last = state
        """The storage as it was saved last, or as the browser was given it."""
        self._saved = _canonical(state)
        self._reads = self._cookies_read = self._rest_read = 0
        """How many reads have begun, and by which of them cookies and all the rest were saved last."""
        self._save_due_at = -math.inf
        self._incomplete: tuple[tuple[str, ...], int] = ((), 0)
        self._cookies_until = _last_expiry(state)

    @property
    def login_expires_at(self) -> float | None:
        """When the login expires as far as the cookies say that the site gets, in Unix seconds."""
        return self._ends.expires_at(time.time(), self._host)

    @property
    def is_due(self) -> bool:
        """Whether the session was last saved long enough ago, for what that cost."""
        return time.monotonic() >= self._save_due_at

    async def save(self, context: BrowserContext, *, confirmed: bool = False) -> None:
        """Save what the context holds of the login, if it changed; what fails is logged, and the last one is kept.

        `confirmed`: the site has just said that the login holds.
        """
        started, number = time.monotonic(), self._begin_read()
        try:
            read = await read_storage(context, self._url, self.last, timeout_s=SAVE_TIMEOUT_S)
            now = time.monotonic()
            self._save_due_at = now + max(SAVE_AFTER_S, (now - started) / SAVE_SHARE)
            incomplete = (read.kept, read.left_out)
            if any(incomplete) and incomplete != self._incomplete:
                log.info("session_incomplete", kept_as_it_was=list(read.kept), records_left_out=read.left_out)
            self._incomplete = incomplete
            if number < self._rest_read:
                return
            state = read.state
            if number < self._cookies_read:
                state = {**state, "cookies": self.last.get("cookies", [])}
            self._save_if_changed(storable(state), confirmed=confirmed)
            self._rest_read, self._cookies_read = number, max(number, self._cookies_read)
        except BadProfile as error:
            self._log.failed(error.reason)
            log.warning("session_not_saved", error=type(error).__name__, reason=error.reason)
        except (Error, TimeoutError, RecursionError) as error:
            log.warning("session_not_saved", error=type(error).__name__)

    async def save_cookies(self, context: BrowserContext) -> None:
        """Save the cookies, if they changed, before they are used: a site may take each of them only once.

        The rest stays as it was saved last. What fails is logged, as by `save`.
        """
        number = self._begin_read()
        try:
            cookies = await within(SAVE_TIMEOUT_S, context.cookies(), "session-cookies")
            if number < self._cookies_read:
                return
            self._save_if_changed(storable({**self.last, "cookies": list(cookies)}), confirmed=False)
            self._cookies_read = number
        except BadProfile as error:
            self._log.failed(error.reason)
            log.warning("session_not_saved", error=type(error).__name__, reason=error.reason)
        except (Error, TimeoutError, RecursionError) as error:
            log.warning("session_not_saved", error=type(error).__name__)

    def _begin_read(self) -> int:
        self._reads += 1
        return self._reads

    def _save_if_changed(self, state: StorageState, *, confirmed: bool) -> None:
        """Save the state, unless it is poorer. Raises BadProfile with the reason why it is, RecursionError."""
        if self._misses_cookies(bool(state.get("cookies"))):
            raise BadProfile("the browser has lost all cookies")
        canonical = _canonical(state)
        if canonical == self._saved:
            return
        if len(canonical) > MAX_PROFILE_BYTES - FILE_OVERHEAD_BYTES:
            raise BadProfile(TOO_LARGE)
        # What no browser would load again, or holds no login, must not take the place of what it loads.
        with reasons_only():
            summary = _summary_of_login(state)
        has_lost_login = self._is_of_server(self._summary) and not self._is_of_server(summary)
        if has_lost_login and not (confirmed or summary.holds_stored_token):
            raise BadProfile("has no cookie of the login left, and the site has not said that it holds")
        save_session(self._profile, state, self._run_dir, self._claim)
        self._log.saved(time.time())
        self.last, self._saved, self._summary = state, canonical, summary
        self._ends = ProfileSummary.of(login_part(state, self._expires_by)) if self._expires_by else summary
        self._cookies_until = _last_expiry(state)
        log.debug("session_saved")

    def _is_of_server(self, summary: ProfileSummary) -> bool:
        """Return whether the site gets a cookie that is still valid and that its pages cannot have made."""
        now = time.time()
        return any(
            cookie.http_only and cookie.reaches(self._host) and not cookie.has_expired(now)
            for cookie in summary.cookies
        )

    def latest(self) -> StorageState:
        """Return the session as it was saved last, or the profile's own. Raises ProfileError if it has expired."""
        return state_to_open(self._profile, self._run_dir, session_log=self._log)

    async def has_lost_cookies(self, context: BrowserContext) -> bool:
        """Return whether the context has no cookie left, though the session that was saved has some still valid.

        False where the browser does not answer within SAVE_TIMEOUT_S seconds.
        """
        try:
            cookies = await within(SAVE_TIMEOUT_S, context.cookies(), "session-look")
        except (Error, TimeoutError):
            return False
        return self._misses_cookies(bool(cookies))

    def _misses_cookies(self, has_some: bool) -> bool:
        return not has_some and self._cookies_until > time.time()


def _summary_of_login(state: StorageState) -> ProfileSummary:
    """Return what the state says of its login. Raises BadProfile if it is no valid one, or there is no login in it."""
    summary = ProfileSummary.of(state)
    if summary.fingerprint == NO_LOGIN:
        raise BadProfile(NOTHING_STORED)
    return summary


def _last_expiry(state: StorageState) -> float:
    """Return until when some cookie of the state is valid, in Unix seconds; endless if one never expires."""
    expiries = [cookie.get("expires", -1) for cookie in state.get("cookies", [])]
    return max((math.inf if expires < 0 else expires for expires in expiries), default=-math.inf)


def _canonical(state: StorageState) -> str:
    """Return the content as a text that is the same for any order of cookies and origins, about as long as its file."""
    keys = ("cookies", "origins", "sessionStorage")
    return "\n".join(
        line for key in keys for line in sorted(json.dumps(one, sort_keys=True) for one in state.get(key, []))
    )


class LoginWatch:
    """Checks the login of a page at intervals of `interval_s` seconds, and saves its session where it changed."""

    def __init__(
        self,
        page: SitePage,
        session: SessionKeeper,
        status: PageStatus,
        interval_s: float,
        on_cookies_lost: Callable[[], object],
    ) -> None:
        """`on_cookies_lost` is called when the browser turns out to have lost the login's cookies."""
        self._on_cookies_lost = on_cookies_lost
        self._has_held = False
        self.uses = 0
        """How often the page was brought to an empty conversation."""
        self._page = page
        self._session = session
        self._status = status
        self._check = LoginCheck()
        self._interval_s = interval_s
        self._checked_at = time.monotonic()
        self._may_have_changed = False

    @property
    def expires_at(self) -> float | None:
        """When the login expires by its cookies, in Unix seconds; None if nothing says so."""
        return self._session.login_expires_at

    def latest_session(self) -> StorageState:
        """Return the session as it was saved last, or the profile's own. Raises ProfileError if it has expired."""
        return self._session.latest()

    async def holds(self) -> bool | None:
        """Ask the site whether the login holds; None if its file does not say how, or it does not answer."""
        answer = await self._check.ask(self._page.tab)
        return None if answer == "none" else answer == "holds"

    @property
    def site_is_away(self) -> bool:
        """Whether the site has stopped to answer the check."""
        return self._check.says_away

    async def site_stays_away(self) -> bool:
        """Return whether the site was away and, asked once more, still is."""
        if self.site_is_away:
            await self.holds()
        return self.site_is_away

    async def is_logged_out(self) -> bool:
        """Find out whether the login is lost, by asking the site, or else by what the page shows."""
        holds = await self.holds()
        if holds is None:
            return await self._page.tab.wait_for_login(LOGIN_SHOWS_AFTER_S) == "out"
        return not holds

    async def judge(self, error: BrowserError) -> BrowserError:
        """Return the error, or BrowserLost in place of a LoginExpired whose cause is that all cookies are gone.

        Some sites delete their only cookie at a logout, which looks the same; then the next browser, which gets the
        saved session, finds the login expired at its start. There the error stands: what never held was not lost.
        """
        if not (isinstance(error, LoginExpired) and self._has_held):
            return error
        if not await self._session.has_lost_cookies(self._page.context):
            return error
        log.error("browser_lost_cookies")
        self._on_cookies_lost()
        return BrowserLost("the browser has lost all cookies", submitted=error.submitted)

    def for_status(self, error: BrowserError) -> BrowserError:
        """Return what the error says of the page: a session that is over can be followed by the next one.

        A login that has expired waits for a new profile; where the child can log in by itself, the page is to be
        loaded anew for it.
        """
        if isinstance(error, LoginExpired) and not isinstance(error, LoginRefused) and self._page.can_log_in:
            return PageBroken("the site's session is over; the child logs in again", submitted=error.submitted)
        return error

    async def check_if_due(self) -> bool:
        """Return False if the page must be loaded anew to learn what became of the login.

        That is where the site was asked and says that it is lost, and once where it has never answered a check: then
        either the site is away or the check is wrong. Saves the session, if due, while the site answers.
        """
        if time.monotonic() - self._checked_at <= self._next_check_s():
            await self.save_if_changed()
            return True
        self._checked_at = time.monotonic()
        await self.save_cookies()
        holds = await self.holds()
        if holds is False:
            return False
        if holds is None and self._check.unanswered:
            log.warning("login_check_unanswered", in_a_row=self._check.unanswered)
            return not (self._check.never_answers and self._check.unanswered == AWAY_AFTER_CHECKS)
        await self.save(confirmed=holds is True)
        return True

    def _next_check_s(self) -> float:
        """Return how long after the last check the next one is due: soon, while it is open whether the site is away."""
        is_open = self._check.unanswered and not self._check.never_answers
        return min(self._interval_s, CHECK_AGAIN_S) if is_open else self._interval_s

    def note_use(self) -> None:
        """Note that the page was used, logged in: the site may have changed the session."""
        self._may_have_changed = self._has_held = True
        self.uses += 1

    async def save_if_changed(self) -> None:
        """Save the session if the page was used since, unless one was saved a moment ago."""
        if self._may_have_changed and self._session.is_due:
            await self.save()

    async def save_cookies(self) -> None:
        """Save the cookies before the site gets them, if the page was logged in when it was looked at last.

        So a child that is killed has used no cookie that was not saved: the site may have taken it for the last time.
        """
        if not self._in_doubt:
            await self._session.save_cookies(self._page.context)

    @property
    def _in_doubt(self) -> bool:
        """Whether what the browser holds may be that of an error page, or of a login that is over."""
        return self._status.page_reason is not None or self._status.hangs or self._check.is_in_doubt

    async def save(self, *, confirmed: bool = False) -> None:
        """Save the session for the next start, if the page shows that it is logged in, and the site answers.

        `confirmed`: the site has just said that the login holds.
        """
        if self._in_doubt or self._page.is_asleep:
            return
        with suppress(PageHung):
            seen = await self._page.tab.look()
            if seen and seen.logged_in and not seen.logged_out:
                self._may_have_changed = False
                await self._session.save(self._page.context, confirmed=confirmed)
                self._page.state = self._session.last

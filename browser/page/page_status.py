"""The page's status: why it cannot take a prompt, if so, kept up to date by everything that works with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from browser.capture.capture import CaptureMode
from browser.errors import (
    BrowserError,
    BrowserLost,
    LoginExpired,
    NotStarted,
    PageBroken,
    ProxyRefused,
    ProxyUnreachable,
    QuotaExceeded,
    SiteUnreachable,
)
from browser.page.refusals import DEFAULT_REST_S
from contract.child_api import SessionReport, UnreadyReason

log = structlog.get_logger("browser")

_ERRORS: Final[Mapping[UnreadyReason, type[BrowserError]]] = {
    UnreadyReason.STARTING: NotStarted,
    UnreadyReason.BROWSER_LOST: BrowserLost,
    UnreadyReason.LOGIN_EXPIRED: LoginExpired,
    UnreadyReason.PAGE_BROKEN: PageBroken,
    UnreadyReason.QUOTA: QuotaExceeded,
    UnreadyReason.SITE_UNREACHABLE: SiteUnreachable,
    UnreadyReason.PROXY_UNREACHABLE: ProxyUnreachable,
    UnreadyReason.PROXY_REFUSED: ProxyRefused,
}


@dataclass(frozen=True)
class RefreshStatus:
    """What came of the login's refreshes since the child's start.

    `keeps_login` tells that the next one comes before the login expires, and that the last did not fail, or that the
    child logs in again by itself; `warning` is a line for people after one that failed.
    """

    refreshed: int = 0
    failed: int = 0
    keeps_login: bool = False
    warning: str | None = None


@dataclass(frozen=True)
class StatusSnapshot:
    """The status at one moment, as callers see it. `reason` is None when the page can take a prompt.

    `login_expires_at` is in Unix seconds; `rest_s` is how long the site's quota still lasts, in seconds.
    `asleep` tells that the page is closed while it is idle; a prompt opens it.
    """

    ready: bool
    reason: UnreadyReason | None
    detail: str | None
    capture: CaptureMode | None
    login_expires_at: float | None
    rest_s: float | None
    session: SessionReport | None = None
    refresh: RefreshStatus = RefreshStatus()
    asleep: bool = False


class PageStatus:
    """The page's own state, and over it two that pass by themselves: the browser hangs, the site's quota is used up."""

    def __init__(self) -> None:
        self._page_reason: UnreadyReason | None = UnreadyReason.STARTING
        self._detail: str | None = None
        self._hangs = False
        self._rest_until: float | None = None

    @property
    def page_reason(self) -> UnreadyReason | None:
        """Why the page itself is not usable, whatever browser and quota are doing."""
        return self._page_reason

    @property
    def hangs(self) -> bool:
        """Whether the browser does not answer."""
        return self._hangs

    @property
    def rest_s(self) -> float | None:
        """How long the site's quota still lasts, in seconds; None if it is not used up."""
        if self._rest_until is None:
            return None
        remaining_s = self._rest_until - time.monotonic()
        return remaining_s if remaining_s > 0 else None

    def set_ready(self) -> None:
        """Take down that the page can take a prompt."""
        self._set_page(None, None)

    def set_error(self, error: BrowserError) -> None:
        """Take over what an error says about the page; most say nothing about it."""
        if isinstance(error, QuotaExceeded):
            self._rest_until = time.monotonic() + (error.rest_s or DEFAULT_REST_S)
            log.warning("page_quota", rest_s=error.rest_s)
        elif isinstance(error, (LoginExpired, PageBroken)):
            self._set_page(UnreadyReason(error.reason), str(error))

    def set_hangs(self, *, hangs: bool) -> None:
        """Take down whether the browser answers."""
        if hangs != self._hangs:
            log.warning("browser_hangs" if hangs else "browser_answers_again")
        self._hangs = hangs

    def _set_page(self, reason: UnreadyReason | None, detail: str | None) -> None:
        if reason != self._page_reason:
            log.info("page_condition", reason=reason and reason.value, detail=detail)
        self._page_reason, self._detail = reason, detail

    def reason_and_detail(self) -> tuple[UnreadyReason | None, str | None]:
        """Return why the page cannot take a prompt now and what more is known; (None, None) if it can."""
        if self._hangs:
            return UnreadyReason.BROWSER_LOST, "the browser does not answer"
        if self._page_reason is None and self.rest_s is not None:
            return UnreadyReason.QUOTA, "the site refuses further prompts for now"
        return self._page_reason, self._detail

    def require_ready(self) -> None:
        """Raise the error that says why the page cannot take a prompt, if it cannot."""
        reason, detail = self.reason_and_detail()
        if reason is UnreadyReason.QUOTA:
            raise QuotaExceeded(detail or reason, rest_s=self.rest_s)
        if reason is not None:
            raise _ERRORS[reason](detail or "the page is starting")

"""What state the page is in, as others see it."""

import time
from dataclasses import dataclass
from typing import Literal

import structlog

from browser.errors import BrowserError, BrowserLost, LoginExpired, NotStarted, PageBroken, QuotaExceeded
from browser.page.refusals import DEFAULT_REST_S

log = structlog.get_logger("browser")

_ERRORS: dict[str, type[BrowserError]] = {
    "starting": NotStarted,
    "browser_lost": BrowserLost,
    "login_expired": LoginExpired,
    "page_broken": PageBroken,
    "quota": QuotaExceeded,
}


@dataclass(frozen=True)
class PageStatus:
    """`reason` is None when ready; `login_expires_at` is Unix time, `rest_s` the seconds that a quota still lasts."""

    ready: bool
    reason: str | None
    detail: str | None
    capture: Literal["network", "dom"] | None
    login_expires_at: float | None
    rest_s: float | None


class Condition:
    """The page's own state, and over it two that pass: the browser hangs, the site wants rest."""

    def __init__(self) -> None:
        self._reason: str | None = "starting"
        self._detail: str | None = None
        self._hangs = False
        self._rest_until: float | None = None

    @property
    def of_page(self) -> str | None:
        """The reason the page itself is not usable, whatever the browser and the site are doing."""
        return self._reason

    @property
    def hangs(self) -> bool:
        return self._hangs

    def set_ready(self) -> None:
        self._set(None, None)

    def set_error(self, error: BrowserError) -> None:
        """Take over what an error says about the page; most say nothing about it."""
        if isinstance(error, QuotaExceeded):
            self._rest_until = time.monotonic() + (error.rest_s or DEFAULT_REST_S)
            log.warning("page_quota", rest_s=error.rest_s)
        elif isinstance(error, (LoginExpired, PageBroken)):
            self._set(error.reason, str(error))

    def set_hangs(self, *, hangs: bool) -> None:
        if hangs != self._hangs:
            log.warning("browser_hangs" if hangs else "browser_answers_again")
        self._hangs = hangs

    def _set(self, reason: str | None, detail: str | None) -> None:
        if reason != self._reason:
            log.info("page_condition", reason=reason, detail=detail)
        self._reason, self._detail = reason, detail

    def rest_s(self) -> float | None:
        if self._rest_until is None:
            return None
        remaining_s = self._rest_until - time.monotonic()
        return remaining_s if remaining_s > 0 else None

    def reason_and_detail(self) -> tuple[str | None, str | None]:
        if self._hangs:
            return "browser_lost", "the browser does not answer"
        if self._reason is None and self.rest_s() is not None:
            return "quota", "the site refuses further prompts for now"
        return self._reason, self._detail

    def require_ready(self) -> None:
        """Raises the error that says why the page cannot take a prompt."""
        reason, detail = self.reason_and_detail()
        if reason == "quota":
            raise QuotaExceeded(detail or reason, rest_s=self.rest_s())
        if reason is not None:
            raise _ERRORS[reason](detail or "the page is starting")

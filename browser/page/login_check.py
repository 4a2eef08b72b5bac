"""The site file's login.check: what the site says to it, and how often in a row it says nothing."""

from __future__ import annotations

from typing import Literal

from playwright.async_api import Error

from browser.capture import scripts
from browser.page.tab import LOOK_TIMEOUT_S, SERVER_ERRORS, Tab
from browser.timeouts import within

AWAY_AFTER_CHECKS = 3

CheckAnswer = Literal["holds", "expired", "none"]


async def login_check_status(tab: Tab, timeout_s: float = LOOK_TIMEOUT_S) -> int | None:
    """Return the HTTP status that the page gets from the site file's login.check.

    None where the file has none, or the page gets no response within timeout_s seconds.
    """
    check = tab.site.login.check
    if check is None:
        return None
    asking = tab.page.evaluate(scripts.REQUEST_STATUS, [tab.site.address(check.url), "GET"])
    try:
        status: int = await within(timeout_s, asking, "page-login-check")
    except (Error, TimeoutError):
        return None
    return status


class LoginCheck:
    """Asks the site whether the login holds, and counts the checks in a row that it does not answer.

    No response, or a server error, says nothing of the login: the site is away. But a check that has never been
    answered may be wrong itself, and says nothing of the site either.
    """

    def __init__(self) -> None:
        self._has_answered = False
        self.unanswered = 0
        """How many checks in a row had no answer."""

    async def ask(self, tab: Tab) -> CheckAnswer:
        """Return what the site says; "none" where it does not answer, or its file does not say how to ask."""
        check = tab.site.login.check
        if check is None:
            return "none"
        status = await login_check_status(tab)
        is_expired = status in check.expired_status and not tab.site.login.none
        if status is None or (status >= SERVER_ERRORS and not is_expired):
            self.unanswered += 1
            return "none"
        self._has_answered, self.unanswered = True, 0
        return "expired" if is_expired else "holds"

    @property
    def says_away(self) -> bool:
        """Whether the site has stopped to answer."""
        return self._has_answered and self.unanswered >= AWAY_AFTER_CHECKS

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last check had no answer, though earlier ones had."""
        return self._has_answered and self.unanswered > 0

    @property
    def never_answers(self) -> bool:
        """Whether so many checks had no answer, and no other one before them had."""
        return not self._has_answered and self.unanswered >= AWAY_AFTER_CHECKS

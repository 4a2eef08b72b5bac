"""Map a site's refusal to a BrowserError, as the site file says what it means."""

from __future__ import annotations

import re

from playwright.async_api import Page, Response

from browser.capture.findings import Refused
from browser.errors import BrowserError, LoginExpired, PromptRefused, QuotaExceeded, SiteFailed
from browser.site.schema import Refusal, Site, glob_to_regex

DEFAULT_REST_S = 900.0


class LoginRefusals:
    """Notes whether the site refuses the prompt's own request with a status that means an expired login.

    The browser tells of it also where the page leaves for the login page at once, and loses what its script has seen.
    """

    def __init__(self, page: Page, site: Site) -> None:
        self._page = page
        self._network = site.capture.network
        self._url = re.compile(glob_to_regex(self._network.url)) if self._network else None
        self._statuses = {refusal.status for refusal in site.refusals if refusal.means == "login_expired"}
        self._looks = False
        self.seen = False
        """Whether there was one."""

    def start(self) -> None:
        """Look at the responses to the page from now on."""
        if self._url and self._statuses:
            self._page.on("response", self._note)
            self._looks = True

    def stop(self) -> None:
        """Look no more."""
        if self._looks:
            self._page.remove_listener("response", self._note)
            self._looks = False

    def _note(self, response: Response) -> None:
        if response.status not in self._statuses or self._network is None or self._url is None:
            return
        if self._network.method in (None, response.request.method) and self._url.match(response.request.url):
            self.seen = True


def error_of(site: Site, refused: Refused, *, submitted: bool = True) -> BrowserError:
    """Return the error for a refusal. The site's own words stay out of it: they may hold anything."""

    def matches(refusal: Refusal) -> bool:
        if refusal.status is not None and refusal.status != refused.status:
            return False
        return refusal.text is None or refusal.text.casefold() in refused.message.casefold()

    refusal = next(filter(matches, site.refusals), None)
    if refusal and refusal.means in ("quota", "login_expired"):
        error: BrowserError
        if refusal.means == "quota":
            rest_s = refusal.rest_s or DEFAULT_REST_S
            error = QuotaExceeded("the site refuses further prompts for now", submitted=submitted, rest_s=rest_s)
        else:
            error = LoginExpired("the site says that the login has expired", submitted=submitted)
        error.not_taken = True
        return error
    if refusal and refusal.means == "refused":
        named = f"the site file's text {refusal.text!r}" if refusal.text else f"status {refusal.status}"
        return PromptRefused(f"the site refuses this prompt ({named})", submitted=submitted)
    status = f" with status {refused.status}" if refused.status else ""
    return SiteFailed(f"the site answered the prompt with an error{status}", submitted=submitted)

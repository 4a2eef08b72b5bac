"""Map a site's refusal to a BrowserError, as the site file says what it means."""

from __future__ import annotations

from browser.capture.findings import Refused
from browser.errors import BrowserError, LoginExpired, PromptRefused, QuotaExceeded, SiteFailed
from browser.site.schema import Refusal, Site

DEFAULT_REST_S = 900.0


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

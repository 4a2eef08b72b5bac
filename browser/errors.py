"""Errors of a browser and its page. Each message is one line for people, free of secrets."""

from __future__ import annotations

from contract.errors import TabfleetError
from contract.exit_codes import ExitCode


class PageHung(TabfleetError):
    """The page did not answer a look in time: it, or its browser, is stuck.

    Not a BrowserError: a page may be busy for a moment, so each caller decides what that means.
    """


class RefreshFailed(TabfleetError):
    """A login was not refreshed; the message is one line for people.

    `path` leads to the site file's key that it is about; `logged_out` tells that the site may have ended the login. Not
    a BrowserError: the page goes on serving.
    """

    def __init__(self, message: str, path: tuple[str | int, ...], *, logged_out: bool = False) -> None:
        super().__init__(message)
        self.path = path
        self.logged_out = logged_out


class BrowserError(TabfleetError):
    """Base of what a caller of the page may get.

    `reason` is the error code that a caller of the child sees; `submitted` tells whether the prompt may
    have reached the site; `not_taken` that the site itself says it did not take the prompt, so
    that another login may be asked; `exit_code` is the child's where it cannot start because of this error.
    """

    reason = "page_broken"
    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, submitted: bool = False) -> None:
        super().__init__(message)
        self.submitted = submitted
        self.not_taken = False


class SiteError(BrowserError):
    """A site file cannot be used; the message names file, line, key and what is expected."""

    reason = "site_file"


class ProfileError(BrowserError):
    """A profile cannot be read as a Playwright storage_state."""

    reason = "profile"


class ProfileLocked(BrowserError):
    """Another browser on this machine uses the same login."""

    reason = "profile_locked"
    exit_code = ExitCode.PROFILE_LOCKED


class EngineMissing(BrowserError):
    """There is no browser to start, no display for it, or no tool that it needs."""

    reason = "no_browser"
    exit_code = ExitCode.NO_BROWSER


class TrustError(BrowserError):
    """EXTRA_CA_FILE cannot be used."""

    reason = "extra_ca_file"


class StreamPortTaken(BrowserError):
    """Another process listens on the stream port."""

    reason = "port_taken"
    exit_code = ExitCode.PORT_IN_USE


class NotStarted(BrowserError):
    """The page is not open yet, or not any more."""

    reason = "starting"


class PageBroken(BrowserError):
    """The page does not look or act as the site file says."""


class SiteUnreachable(PageBroken):
    """The site cannot be reached, or answers with a server error. A PageBroken, for there is no page to work with."""

    reason = "site_unreachable"


class ProxyUnreachable(SiteUnreachable):
    """The login's own proxy cannot be reached, or does not act as one."""

    reason = "proxy_unreachable"


class ProxyRefused(SiteUnreachable):
    """The login's own proxy does not take its user name or password (`login_refused`), or forbids the site."""

    reason = "proxy_refused"

    def __init__(self, message: str, *, submitted: bool = False, login_refused: bool = False) -> None:
        super().__init__(message, submitted=submitted)
        self.login_refused = login_refused


class ClaimLost(BrowserError):
    """The claim of the login is over: another coordinator may use it by now, and nothing is sent any more."""

    reason = "claim_lost"
    exit_code = ExitCode.CLAIM_OVER


class BrowserLost(BrowserError):
    """The browser or Playwright's driver died, or the browser does not answer."""

    reason = "browser_lost"
    exit_code = ExitCode.BROWSER_LOST


class LoginExpired(BrowserError):
    """The site shows its login page, or says that the session is over."""

    reason = "login_expired"


class LoginRefused(LoginExpired):
    """The site does not take the login that the child has done by itself, and it is not tried again."""


class QuotaExceeded(BrowserError):
    """The site refuses prompts for now. `rest_s`: how long to send it none, in seconds, if known."""

    reason = "quota"

    def __init__(self, message: str, *, submitted: bool = False, rest_s: float | None = None) -> None:
        super().__init__(message, submitted=submitted)
        self.rest_s = rest_s


class PromptRefused(BrowserError):
    """The site refuses this prompt; page and login are fine."""

    reason = "refused"


class FirstTokenTimeout(BrowserError):
    """No part of the answer came in time."""

    reason = "first_token_timeout"


class StreamIdleTimeout(BrowserError):
    """The answer began, and then no more of it came in time."""

    reason = "stream_idle_timeout"


class CaptureGap(BrowserError):
    """Part of the answer may be missing or was rewritten after it was passed on, and the page cannot fill it in."""

    reason = "capture_gap"


class PromptRejected(BrowserError):
    """The page's input did not take exactly the prompt, or not its images; nothing was sent.

    `for_good` tells that this page will not take it at any other time either; `tried` has a line for each way in
    which it was tried, with what the input held instead.
    """

    reason = "prompt_rejected"

    def __init__(
        self, message: str, *, submitted: bool = False, for_good: bool = False, tried: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, submitted=submitted)
        self.for_good = for_good
        self.tried = tried


class PromptChanged(BrowserError):
    """The page sent another prompt than its input held, and its site file says that this is an error."""

    reason = "prompt_changed"


class SiteFailed(BrowserError):
    """The site reported an error of its own."""

    reason = "site_error"


class ScreenshotTimeout(BrowserError):
    """No screenshot could be taken in time: the page, or its browser, is stuck."""

    reason = "screenshot_timeout"


class LoginNotSaved(BrowserError):
    """Nobody logged in, or the login leaves nothing that a file could hold."""

    reason = "login_not_saved"
    exit_code = ExitCode.FAILED


class SavePlaceError(BrowserError):
    """A login cannot be saved to the path that was given."""

    reason = "save_place"


class ModelNotFound(BrowserError):
    """The site file lists no such model."""

    reason = "model_not_found"

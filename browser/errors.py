"""What can go wrong with a browser and its page; each message is one line for people, free of secrets."""

from contract.errors import TabfleetError
from contract.exit_codes import ExitCode


class BrowserError(TabfleetError):
    """Base of all errors of this package.

    `reason` is the error code that a caller of the child sees; `submitted` tells whether the prompt may
    have reached the site; `exit_code` is how a child ends that cannot start because of it.
    """

    reason = "page_broken"
    exit_code = ExitCode.USAGE

    def __init__(self, message: str, *, submitted: bool = False) -> None:
        super().__init__(message)
        self.submitted = submitted


class SiteError(BrowserError):
    """A site file cannot be used; the message names file, line, key and what is expected."""

    reason = "site_file"


class ProfileError(BrowserError):
    """A profile cannot be read as a Playwright storage_state."""

    reason = "profile"


class ProfileLocked(BrowserError):
    """The same login is in use by another browser on this machine."""

    reason = "profile_locked"
    exit_code = ExitCode.PROFILE_LOCKED


class EngineMissing(BrowserError):
    """There is no browser to start, or no tool to bind its life to ours."""

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
    """The page is not up yet."""

    reason = "starting"


class PageBroken(BrowserError):
    """The page does not look or act as the site file says."""


class BrowserLost(BrowserError):
    """The browser or Playwright's driver died, or the browser does not answer."""

    reason = "browser_lost"
    exit_code = ExitCode.BROWSER_LOST


class LoginExpired(BrowserError):
    """The site shows its login page, or says that the session is over."""

    reason = "login_expired"


class QuotaExceeded(BrowserError):
    """The site refuses for now. `rest_s`: how long to leave it alone, in seconds, if known."""

    reason = "quota"

    def __init__(self, message: str, *, submitted: bool = False, rest_s: float | None = None) -> None:
        super().__init__(message, submitted=submitted)
        self.rest_s = rest_s


class PromptRefused(BrowserError):
    """The site does not take this prompt; with page and login all is well."""

    reason = "refused"


class FirstTokenTimeout(BrowserError):
    """Nothing of an answer came in time."""

    reason = "first_token_timeout"


class StreamIdleTimeout(BrowserError):
    """An answer began and then nothing more of it came."""

    reason = "stream_idle_timeout"


class CaptureGap(BrowserError):
    """Part of an answer may be missing, and nothing else on the page could fill it in."""

    reason = "capture_gap"


class PromptRejected(BrowserError):
    """The page's input did not hold exactly the prompt; nothing was sent."""

    reason = "prompt_rejected"


class SiteFailed(BrowserError):
    """The site reported an error of its own."""

    reason = "site_error"


class ScreenshotTimeout(BrowserError):
    """The page could not be pictured in time: it, or its browser, is stuck."""

    reason = "screenshot_timeout"


class LoginNotSaved(BrowserError):
    """Nobody logged in, or there was nothing to save of it."""

    reason = "login_not_saved"
    exit_code = ExitCode.FAILED


class SavePlaceError(BrowserError):
    """A login cannot be saved where it was to be."""

    reason = "save_place"


class ModelNotFound(BrowserError):
    """The site file lists no such model."""

    reason = "model_not_found"

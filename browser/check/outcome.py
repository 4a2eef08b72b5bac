"""How a step of the check ended, and the exit code of the whole."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from browser.errors import BrowserError, LoginExpired, ProfileError, QuotaExceeded, SiteError
from contract.errors import TabfleetError
from contract.exit_codes import ExitCode

Mark = Literal["ok", "warn", "skip", "fail"]


class Exit(IntEnum):
    """Exit codes of `python -m browser.check`; 64 and above are those of a child."""

    PASSED = ExitCode.STOPPED
    FAILED = ExitCode.FAILED
    USAGE = ExitCode.USAGE
    LOGGED_OUT = 3
    REFUSED = 4
    OUR_FAULT = 9
    BROWSER_LOST = ExitCode.BROWSER_LOST
    PROFILE_LOCKED = ExitCode.PROFILE_LOCKED
    NO_BROWSER = ExitCode.NO_BROWSER
    INTERRUPTED = ExitCode.INTERRUPTED


MEANINGS = {
    Exit.PASSED: "every step passed; a step that says ! did, but look at it",
    Exit.FAILED: "a step on the page failed; the output names it",
    Exit.USAGE: "the command line, a variable, the site file or the login file is wrong",
    Exit.LOGGED_OUT: "the login is not valid, or not any more",
    Exit.REFUSED: "the site refuses further prompts for now",
    Exit.OUR_FAULT: "an error in this program itself",
    Exit.BROWSER_LOST: "the browser died",
    Exit.PROFILE_LOCKED: "another browser on this machine uses this login",
    Exit.NO_BROWSER: "there is no browser to start, or no display to show it on",
    Exit.INTERRUPTED: "interrupted",
}


@dataclass(frozen=True)
class StepResult:
    """What a step has to say; `warn` and `skip` are no failures. `keys` are the site file's that it is about."""

    text: str
    mark: Mark = "ok"
    hints: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepReport:
    """A step that is over, as the screen shows it."""

    name: str
    result: StepResult
    took_s: float


class StepFailed(TabfleetError):
    """A step failed; the message is one line, `hints` are what helps to find out why.

    `keys` are the site file's keys to look at; where there are none, those of the step. `site_is_away` tells that the
    site was not reached, or answered with a server error: its page may be as it was.
    """

    def __init__(
        self,
        message: str,
        *hints: str,
        keys: tuple[str, ...] = (),
        code: Exit = Exit.FAILED,
        site_is_away: bool = False,
    ) -> None:
        super().__init__(message)
        self.site_is_away = site_is_away
        self.hints = hints
        self.keys = keys
        self.code = code


def exit_code_of(error: BrowserError) -> Exit:
    """Return the check's exit code for an error of the browser."""
    if isinstance(error, LoginExpired):
        return Exit.LOGGED_OUT
    if isinstance(error, QuotaExceeded):
        return Exit.REFUSED
    if isinstance(error, (SiteError, ProfileError)):
        return Exit.USAGE
    shared = (ExitCode.BROWSER_LOST, ExitCode.PROFILE_LOCKED, ExitCode.NO_BROWSER)
    return Exit(error.exit_code) if error.exit_code in shared else Exit.FAILED

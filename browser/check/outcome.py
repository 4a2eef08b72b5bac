"""How a step of the check ended, and what the whole comes to."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from browser.errors import BrowserError, LoginExpired, ProfileError, QuotaExceeded, SiteError
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
class Told:
    """What a step has to say; `warn` and `skip` are no failures."""

    text: str
    mark: Mark = "ok"
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A step that is over. `keys` are the site file's that it is about, with their lines."""

    name: str
    told: Told
    took_s: float
    keys: tuple[str, ...] = ()


class StepFailed(Exception):
    """A step failed; the message is one line, `hints` are what helps to find out why."""

    def __init__(self, message: str, *hints: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.hints = hints
        self.code = code


@dataclass
class Result:
    """The whole check."""

    outcomes: list[Outcome] = field(default_factory=list)
    code: Exit = Exit.PASSED


def exit_code_of(error: BrowserError) -> Exit:
    if isinstance(error, LoginExpired):
        return Exit.LOGGED_OUT
    if isinstance(error, QuotaExceeded):
        return Exit.REFUSED
    if isinstance(error, (SiteError, ProfileError)):
        return Exit.USAGE
    shared = (ExitCode.BROWSER_LOST, ExitCode.PROFILE_LOCKED, ExitCode.NO_BROWSER)
    return Exit(error.exit_code) if error.exit_code in shared else Exit.FAILED

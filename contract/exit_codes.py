"""Why a child's process ended, as its parent and its operator read it.

0 to 2 are the usual codes of a command; those from 69 on follow the spirit of sysexits.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """Exit codes of `launch_camoufox.py`; `python -m browser.check` shares those that apply to it."""

    STOPPED = 0
    FAILED = 1
    USAGE = 2
    PORT_IN_USE = 69
    BROWSER_LOST = 70
    DRIVER_LOST = 71
    PROFILE_LOCKED = 73
    NO_BROWSER = 74
    PARENT_GONE = 75
    CLAIM_OVER = 76
    INTERRUPTED = 130


MEANINGS: Final[Mapping[ExitCode, str]] = {
    ExitCode.STOPPED: "stopped, or the login is saved",
    ExitCode.FAILED: "the login is not saved, or an error in the program itself",
    ExitCode.USAGE: "usage or configuration",
    ExitCode.PORT_IN_USE: "port in use",
    ExitCode.BROWSER_LOST: "browser lost",
    ExitCode.DRIVER_LOST: "driver lost",
    ExitCode.PROFILE_LOCKED: "another browser uses this login",
    ExitCode.NO_BROWSER: "no browser, or no display for it",
    ExitCode.PARENT_GONE: "the parent is gone",
    ExitCode.CLAIM_OVER: "the claim of the login is over",
    ExitCode.INTERRUPTED: "interrupted",
}
"""What each code means, as `--help` prints it."""

"""Why a child's process ended, as its parent reads it. Part of the contract with whoever starts a child."""

from __future__ import annotations

from enum import IntEnum

from browser import errors


class Exit(IntEnum):
    """Exit codes; 64 and above follow sysexits.h in spirit."""

    STOPPED = 0
    FAILED = errors.EXIT_FAILED
    USAGE = errors.EXIT_USAGE
    PORT_IN_USE = errors.EXIT_PORT_IN_USE
    BROWSER_LOST = errors.EXIT_BROWSER_LOST
    DRIVER_LOST = errors.EXIT_DRIVER_LOST
    PROFILE_LOCKED = errors.EXIT_PROFILE_LOCKED
    NO_BROWSER = errors.EXIT_NO_BROWSER
    PARENT_GONE = 75
    INTERRUPTED = 130

"""Why a child's process ended, as its parent reads it. Part of the contract with whoever starts a child."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes; 64 and above follow sysexits.h in spirit."""

    STOPPED = 0
    FAILED = 1
    USAGE = 2
    PORT_IN_USE = 69
    BROWSER_LOST = 70
    DRIVER_LOST = 71
    PROFILE_LOCKED = 73
    NO_BROWSER = 74
    PARENT_GONE = 75

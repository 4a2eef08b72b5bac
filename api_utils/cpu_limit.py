"""Bounded CPU time for work that callers can make as long as they like."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Final, TypeVar

T = TypeVar("T")

_REPEAT_S: Final = 0.05
"""The signal comes again: an exception that is raised where Python ignores it, as in a finalizer, would be lost."""


class CpuLimitExceeded(BaseException):
    """The work took too long. No Exception, so that no handler in the work takes it for one of its own."""


def with_cpu_limit(limit_s: float, work: Callable[[], T]) -> T:
    """Return the work's result. Raises CpuLimitExceeded once this process has spent limit_s seconds of CPU on it.

    For pure Python and the `re` module, which both let signals interrupt them; in the main thread only. A thread could
    not be ended, and a process of its own takes longer to start than all checks of a usual schema.
    """

    def exceed(_: int, __: FrameType | None) -> None:
        raise CpuLimitExceeded

    before = signal.signal(signal.SIGVTALRM, exceed)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, limit_s, _REPEAT_S)
        try:
            return work()
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    finally:
        signal.signal(signal.SIGVTALRM, before)

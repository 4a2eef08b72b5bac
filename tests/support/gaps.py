"""The longest silence of streams, by a clock that stands still while nothing runs on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_LONGEST_TICK_S: Final = 0.1


class Silences:
    """How long each of several streams was silent at most, in the time of a control stream.

    The control comes from another process than they do, by another way. Its clock goes on by the time between two of
    its pieces, but by `_LONGEST_TICK_S` at most: where the machine, or whoever reads, stands still, it stands still,
    too. So what is silent by this clock was silent while the control's process and the reader did run.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ticked_at = now()
        self.clock_s = 0.0
        self._heard_at: dict[str, float] = {}
        self.longest_s: dict[str, float] = {}

    def tick(self) -> None:
        """A piece of the control stream has come."""
        now = self._now()
        self.clock_s += min(now - self._ticked_at, _LONGEST_TICK_S)
        self._ticked_at = now

    def hear(self, name: str) -> None:
        """A piece of this stream has come."""
        self._measure(name)
        self._heard_at[name] = self.clock_s

    def measure(self) -> dict[str, float]:
        """Return the longest silences, those that are not over included."""
        for name in self._heard_at:
            self._measure(name)
        return self.longest_s

    def begin(self) -> None:
        """Forget the silences until now."""
        self.longest_s.clear()
        self._heard_at = dict.fromkeys(self._heard_at, self.clock_s)

    def _measure(self, name: str) -> None:
        silent_s = self.clock_s - self._heard_at.get(name, self.clock_s)
        self.longest_s[name] = max(self.longest_s.get(name, 0.0), silent_s)

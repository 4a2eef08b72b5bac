"""Which conditions there are, and which of them are told: each once, until it is over.

No I/O, and no clock of its own. Flapping and large fleets are bounded: what exceeds a bound is counted, and told later
if it lasts. What is over is told exactly if its beginning was.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from coordinator.alerts.alert import Alert, AlertKind


class Key(NamedTuple):
    """A condition: its kind, and the child or the site that it is about."""

    kind: AlertKind
    child: str | None = None
    site: str | None = None

    @property
    def subject(self) -> dict[str, str]:
        """What it is about, as an alert names it."""
        return {name: value for name, value in (("child", self.child), ("site", self.site)) if value is not None}


@dataclass(frozen=True)
class Bounds:
    """How much is told: conditions of a kind and of one subject in `window_s` seconds.

    What was left out is told `summary_after_s` after the first of it, and not more often than each `summary_every_s`.
    """

    window_s: float = 3600.0
    of_a_kind: int = 20
    of_one: int = 4
    summary_after_s: float = 60.0
    summary_every_s: float = 600.0


@dataclass
class _Condition:
    since: float  # Unix seconds
    facts: dict[str, Any]
    told: bool = False


class Conditions:
    """The conditions that hold now. `tell` takes what is to be sent, `has_room` says whether more can be kept."""

    def __init__(  # noqa: PLR0913 - most by keyword
        self,
        tell: Callable[[Alert], None],
        *,
        has_room: Callable[[], bool],
        left_out: Callable[[AlertKind], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
        bounds: Bounds | None = None,
        told: Mapping[Key, float] | None = None,
    ) -> None:
        """`left_out` is called with the kind of each condition that is not told when it begins.

        `told` are conditions that were told before this process, and since when, in Unix seconds.
        `clock` is monotonic, in seconds; `wall` in Unix seconds.
        """
        self._tell, self._has_room, self._on_left_out = tell, has_room, left_out
        self._clock, self._wall, self._bounds = clock, wall, bounds or Bounds()
        self._holding = {key: _Condition(since, {}, told=True) for key, since in (told or {}).items()}
        self._recent: dict[AlertKind, deque[tuple[float, Key]]] = {}
        """What was told within the window, by kind, with the time by the clock."""
        self._left_out: Counter[AlertKind] = Counter()
        self._left_out_since = 0.0
        self._summed_up_at = -math.inf

    def holding(self) -> tuple[Key, ...]:
        """Return the conditions that hold, told or not."""
        return tuple(self._holding)

    def told(self) -> dict[Key, float]:
        """Return the conditions that hold and were told, and since when, in Unix seconds."""
        return {key: condition.since for key, condition in self._holding.items() if condition.told}

    def begin(self, key: Key, **facts: Any) -> None:
        """Take note that a condition holds; tell of it if it is new, and within the bounds."""
        if key in self._holding:
            return
        condition = self._holding[key] = _Condition(self._wall(), facts)
        if not self._tell_of(key, condition):
            if not self._left_out:
                self._left_out_since = self._clock()
            self._left_out[key.kind] += 1
            self._on_left_out(key.kind)

    def end(self, key: Key, **facts: Any) -> None:
        """Take note that a condition does not hold any more; tell of it if its beginning was told."""
        condition = self._holding.pop(key, None)
        if condition is None or not condition.told:
            return
        now = self._wall()
        lasted_s = round(max(0.0, now - condition.since), 3)
        data = {**key.subject, "recovered_from": key.kind, "lasted_s": lasted_s, **facts}
        self._tell(Alert(AlertKind.RECOVERED, now, data))

    def look(self) -> None:
        """Tell what has had to wait and still holds, and how much was left out; to be called every few seconds."""
        for key, condition in self._holding.items():
            if not condition.told:
                self._tell_of(key, condition)
        now, bounds = self._clock(), self._bounds
        due = max(self._left_out_since + bounds.summary_after_s, self._summed_up_at + bounds.summary_every_s)
        if self._left_out and now >= due and self._has_room():
            self._tell(Alert(AlertKind.LEFT_OUT, self._wall(), {"left_out": dict(self._left_out)}))
            self._left_out.clear()
            self._summed_up_at = now

    def _tell_of(self, key: Key, condition: _Condition) -> bool:
        now, bounds = self._clock(), self._bounds
        told = self._recent.setdefault(key.kind, deque())
        while told and told[0][0] <= now - bounds.window_s:
            told.popleft()
        of_one = sum(other == key for _, other in told)
        if len(told) >= bounds.of_a_kind or of_one >= bounds.of_one or not self._has_room():
            return False
        told.append((now, key))
        condition.told = True
        self._tell(Alert(key.kind, condition.since, {**key.subject, **condition.facts}))
        return True

"""Which of the children that may be the ones that end browsers start alone: the one owner of that.

A suspect has two short lives or more in a row. Where one login ends its browser again and again, it and those that
share with it are suspects, and all of them start alone. But where something ends all browsers of the machine twice, all
logins are suspects, and as many browsers as logins would take most memory at the worst moment. So only as many as one
browser holds may be on trial at a time: one browser's company, which is all that a single bad login makes suspect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import structlog

from coordinator.supervision.launcher import Company
from coordinator.supervision.lifecycle import SUSPECT_AFTER

log = structlog.get_logger(__name__)


class Run(Protocol):
    """One start of a child."""

    gone: asyncio.Event
    """Nothing of it is left."""


class Candidate(Protocol):
    """A child that waits for nothing but its start."""

    name: str

    @property
    def short_lives(self) -> int:
        """How many runs in a row ended before they were READY for long."""


C = TypeVar("C", bound=Candidate)

_REMEMBERED: Final = 10
"""In times of a trial: for how long somebody alone whose trial is over still counts."""


@dataclass
class _Trial:
    """Somebody alone: with how many short lives it began, and whether it has lived long enough to be no suspect."""

    run: Run
    short_lives: int
    over: bool = False
    timers: tuple[asyncio.TimerHandle, ...] = ()


class Suspects:
    """Gives out the places of those that start alone, to those with most short lives first.

    A trial is over when the run has lived for `trial_s` seconds: who ends browsers later than that has no short lives.
    From then on the place is free for those that have had more short lives than this one, and so are in bad company; it
    stays taken for others, because the browser is still there. Who finds no place waits if a trial that goes on will
    free one for it, and else shares with other suspects, and with nobody else. So after deaths of all browsers nobody
    waits, and a bad login among many suspects is alone after one death more, before its company must rest.
    """

    def __init__(self, places: int, trial_s: float, changed: Callable[[], None]) -> None:
        """With 0 `places` there is no limit. `changed` is called when somebody who waits may start."""
        self._places, self._trial_s, self._changed = places, trial_s, changed
        self._trials: dict[str, _Trial] = {}

    def company(self, child: C, waiting: Collection[C]) -> Company | None:
        """Return whom a child shares its browser with if it starts now; None: it waits for a place alone.

        `waiting` are all that could start now.
        """
        if child.short_lives < SUSPECT_AFTER:
            return Company.ANY
        if not self._places:
            return Company.NONE
        for name in [name for name, trial in self._trials.items() if trial.run.gone.is_set()]:
            self._forget(name)
        trials = self._trials.values()
        taken = sum(not trial.over or trial.short_lives >= child.short_lives for trial in trials)
        ahead = sum(_rank(other) < _rank(child) for other in waiting if other.short_lives >= SUSPECT_AFTER)
        if taken + ahead < self._places:
            return Company.NONE
        will_be_free = any(not trial.over and trial.short_lives < child.short_lives for trial in trials)
        return None if will_be_free else Company.SUSPECTS

    def started(self, child: Candidate, company: Company, run: Run) -> None:
        """Take note that a child has been started in this company."""
        if company is Company.ANY or not self._places:
            return
        log.info("suspect_starts", child=child.name, company=company, short_lives=child.short_lives)
        if company is Company.NONE:
            self._forget(child.name)
            later = asyncio.get_running_loop().call_later
            trial = self._trials[child.name] = _Trial(run, child.short_lives)
            trial.timers = (
                later(self._trial_s, self._end_trial, trial),
                later(_REMEMBERED * self._trial_s, self._forget, child.name),
            )

    def close(self) -> None:
        """Have no timer call any more."""
        for name in tuple(self._trials):
            self._forget(name)

    def _end_trial(self, trial: _Trial) -> None:
        trial.over = True
        self._changed()

    def _forget(self, name: str) -> None:
        if (trial := self._trials.pop(name, None)) is not None:
            for timer in trial.timers:
                timer.cancel()


def _rank(child: Candidate) -> tuple[int, str]:
    return -child.short_lives, child.name

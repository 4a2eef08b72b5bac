"""The canary: now and then a site file is checked on one idle login, before its callers notice that the page changed.

A check (`contract.site_check`) runs in a tab of its own beside the page in service, and is given up as soon as a
request wants that page. What it finds wrong is told only once another idle login, or the same one again, has shown it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from contract.site_check import CheckOutcome, SiteCheck
from coordinator.supervision.events import FleetEvent, PageChanged, PageRecovered
from coordinator.supervision.site_file import SiteFile

log = structlog.get_logger(__name__)

CONFIRM_AFTER_S: Final = 2.0
AGAIN_S: Final = 5.0
"""When a check is tried again that found no idle login, or was given up."""
_CONFIRMATIONS: Final = 12
_JITTER: Final = 0.1


class CheckedFleet(Protocol):
    """What the canary needs of the children."""

    def checkable(self) -> list[str]:
        """Return the names of the children on whose page a check may run now."""

    async def check_site(self, name: str, file: str, text: str) -> SiteCheck:
        """Check a site file of this name and text on a child's page; whatever goes wrong is an outcome."""


@dataclass(frozen=True)
class SiteStatus:
    """What is known of a site's page. `ok` is None before the first check has ended; times are in Unix seconds.

    `found` is what the last check that failed has found, while it holds. `new_file` says why another text of the site
    file is not in use; None, if there is none.
    """

    site: str
    file: str
    ok: bool | None
    checked_at: float | None
    failures: int
    found: SiteCheck | None
    new_file: str | None

    def public(self) -> dict[str, Any]:
        """Return what may be shown without a key: nothing of it comes from the page."""
        found = self.found
        return {
            "site": self.site,
            "file": self.file,
            "ok": self.ok,
            "checked_at": self.checked_at,
            "step": found.step if found else None,
            "line": found.line if found else None,
            "key": found.key if found else None,
            "selector": found.selector if found else None,
            "new_file": self.new_file,
        }


class Canary:
    """Checks one site, one check at a time, and never on one login twice in a row where there are others."""

    def __init__(  # noqa: PLR0913 - clock, chance and sleep are arguments
        self,
        site: SiteFile,
        fleet: CheckedFleet,
        *,
        interval_s: float,
        emit: Callable[[FleetEvent], None],
        wall: Callable[[], float] = time.time,
        rand: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`interval_s` is the longest time between two checks while there is an idle login; 0 checks never."""
        self.site = site
        self.exclusive = asyncio.Lock()
        """Held while this site is checked, or its children are replaced by those of another site file."""
        self.found: SiteCheck | None = None
        self.checked_at: float | None = None
        self.failures = 0
        self._fleet, self._interval_s, self._emit = fleet, interval_s, emit
        self._wall, self._rand, self._sleep = wall, rand, sleep
        self._turns: dict[str, int] = {}
        self._turn = 0

    @property
    def ok(self) -> bool | None:
        """Whether the page is as the site file says; None before a check has ended."""
        return None if self.checked_at is None else self.found is None

    async def run(self) -> None:
        """Check at intervals until cancelled."""
        if not self._interval_s:
            return
        while True:
            # Earlier by up to a tenth, never later: coordinators that began together do not ask the site together.
            await self._sleep(self._interval_s * (1 - _JITTER * self._rand()))
            while not await self.look():
                await self._sleep(min(AGAIN_S, self._interval_s))

    async def look(self) -> bool:
        """Check the file in use once, and tell what was found; False if nobody was idle or a request came."""
        async with self.exclusive:
            name, found = await self.checked(self.site.text)
            if found is None:
                return False
            self.take(name, found)
            return True

    async def checked(self, text: str) -> tuple[str, SiteCheck | None]:
        """Return what a check of this text finds, and on whose page. A page that differs is looked at a second time.

        None, where nobody is idle or a request came. The caller holds `exclusive`.
        """
        name, found = await self._check(text)
        if found is None or found.outcome not in (CheckOutcome.CHANGED, CheckOutcome.LOGGED_OUT):
            return name, found
        for _ in range(_CONFIRMATIONS):
            await self._sleep(CONFIRM_AFTER_S)
            name, found = await self._check(text)
            if found is not None:
                break
        return name, found

    async def _check(self, text: str) -> tuple[str, SiteCheck | None]:
        idle = self._fleet.checkable()
        if not idle:
            return "", None
        # Whose turn was longest ago, those that had none first.
        name = min(idle, key=lambda name: self._turns.get(name, 0))
        self._turn += 1
        self._turns[name] = self._turn
        found = await self._fleet.check_site(name, self.site.name, text)
        log.debug("site_check", site=self.site.site, child=name, outcome=found.outcome, step=found.step)
        return name, None if found.outcome is CheckOutcome.GIVEN_UP else found

    def take(self, name: str, found: SiteCheck) -> None:
        """Note what a check of the file in use has found, and tell of a change."""
        match found.outcome:
            case CheckOutcome.PASSED:
                self.checked_at, before, self.found = self._wall(), self.found, None
                if before is not None:
                    self._emit(PageRecovered(name, 0, self.site.site, self.site.name))
            case CheckOutcome.CHANGED | CheckOutcome.INVALID:
                before, self.found = self.found, found
                self.checked_at, self.failures = self._wall(), self.failures + 1
                if before is None or (before.step, before.key) != (found.step, found.key):
                    self._emit(
                        PageChanged(
                            name,
                            0,
                            site=self.site.site,
                            file=self.site.name,
                            line=found.line,
                            key=found.key,
                            selector=found.selector,
                            step=found.step,
                            message=found.message,
                        )
                    )
            case outcome:  # a login that ended, a quota, a site that is away: others tell of them
                log.info("site_check_undecided", site=self.site.site, child=name, outcome=outcome)

    def warnings(self) -> list[str]:
        """Return what the operator should know, a line each."""
        if self.found is None:
            return []
        step = f"its step {self.found.step!r} fails" if self.found.step else self.found.message
        return [f"The page of {self.site.site} is not what its site file says: {step}; look at {self.found.place}."]

"""Spare browsers: hosts without a child, which are ready for the next starts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

import structlog

from coordinator.local import processes
from coordinator.local.host import HostProcess
from coordinator.supervision.launcher import SpareBrowsers
from coordinator.supervision.lifecycle import backoff_s, short_lives_after

log = structlog.get_logger(__name__)

UP_S: Final = 90.0
"""How long a spare may take to start its browser, which gives up by itself after 60 s; then it is killed."""
LONGEST_DELAY_S: Final = 600.0
"""The longest delay after spares that die at once: each attempt costs a start and a line of log, and nobody waits."""
CLOSE_S: Final = 2 * processes.KILLED_TIMEOUT_S


@dataclass(eq=False)
class _Spare:
    """One spare. `deadline` ends its start; `up_at` is when its browser was there, by the loop's clock."""

    host: HostProcess
    deadline: asyncio.TimerHandle
    began_at: float
    up_at: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a child could start in it now, without waiting for a browser."""
        return self.up_at is not None and self.is_usable

    @property
    def is_usable(self) -> bool:
        """Whether a child could start in it."""
        return self.host.takes_children and not self.host.is_over and self.is_sound

    @property
    def is_sound(self) -> bool:
        """Whether all that it needs is still on the disk.

        A cleaner of temporary files may have taken its folder. A Firefox whose program was upgraded opens no page.
        """
        return self.host.folder.exists() and not self.host.folder.has_outdated_browser()


class Spares:
    """Keeps so many spares, while it may: started one after the other, and anew after a delay if they die.

    `look` compares what there is with what there should be; call it whenever a host has changed. No change of settings
    makes a spare stale: those of browsers are read once, at the coordinator's start, and whatever is a site's or a
    login's own comes with the child's order. An upgrade of the browser's program does.
    """

    def __init__(
        self,
        wanted: int,
        *,
        new: Callable[[], HostProcess],
        clean_up: Callable[[HostProcess], Coroutine[Any, Any, None]],
        rand: Callable[[], float] = random.random,
    ) -> None:
        """`new` begins to start a spare, and raises OSError or RuntimeError; `clean_up` removes what is left of one."""
        self._wanted, self._new, self._clean_up, self._rand = wanted, new, clean_up, rand
        self._spares: list[_Spare] = []
        self._allowed = self._ended = False
        self._delay: asyncio.TimerHandle | None = None
        self._cleaning: set[asyncio.Task[None]] = set()
        self._taken = self._failures = self._failures_in_a_row = 0

    @property
    def status(self) -> SpareBrowsers:
        """What there is now."""
        ready = sum(spare.is_ready for spare in self._spares)
        return SpareBrowsers(self._wanted, ready, self._taken, self._failures, self._failures_in_a_row)

    def allow(self, *, allowed: bool) -> None:
        """Say whether a spare may be started now; those that start already go on."""
        self._allowed = allowed
        self.look()

    def take(self, site: str | None) -> HostProcess | None:
        """Return a spare that is the host of this site from now on, one that is up before one that still starts.

        One that still starts is ahead of a new browser, but not after others have died: it might hang.
        """
        fitting = [
            spare
            for spare in self._spares
            if spare.is_ready or (spare.is_usable and spare.up_at is None and not self._failures_in_a_row)
        ]
        spare = min(fitting, key=lambda spare: spare.up_at is None, default=None)
        if spare is None:
            return None
        self._remove(spare)
        self._taken += 1
        if spare.up_at is not None:
            self._failures_in_a_row = 0
        spare.host.adopt(site)
        return spare.host

    def look(self) -> None:
        """Take note of what has become of the spares, and start the next one if it is due."""
        now = asyncio.get_running_loop().time()
        for spare in tuple(self._spares):
            if spare.host.is_over:
                self._bury(spare, now)
            elif self._ended or not spare.is_sound:
                spare.host.kill()
            elif spare.up_at is None and spare.host.is_up:
                spare.up_at = now
                spare.deadline.cancel()
                log.info("spare_browser_ready", host=spare.host.name, took_s=round(now - spare.began_at, 3))
        self._start_next(now)

    def _start_next(self, now: float) -> None:
        # One at a time, and none before what is left of a dead one is gone: there is one stream port for each.
        waits = self._delay is not None or self._cleaning or any(spare.up_at is None for spare in self._spares)
        if self._ended or not self._allowed or waits or len(self._spares) >= self._wanted:
            return
        try:
            host = self._new()
        except (OSError, RuntimeError) as error:
            self._count_failure(0.0, error=error.strerror if isinstance(error, OSError) else str(error))
            return
        deadline = asyncio.get_running_loop().call_later(UP_S, host.kill)
        self._spares.append(_Spare(host, deadline, began_at=now))

    def _remove(self, spare: _Spare) -> None:
        self._spares.remove(spare)
        spare.deadline.cancel()

    def _bury(self, spare: _Spare, now: float) -> None:
        self._remove(spare)
        if not self._ended:
            lived_s = 0.0 if spare.up_at is None else now - spare.up_at
            self._count_failure(lived_s, host=spare.host.name, exit_code=spare.host.exit_code)
        cleaning = asyncio.create_task(self._clean_up(spare.host), name=f"clean-up of {spare.host.name}")
        self._cleaning.add(cleaning)
        cleaning.add_done_callback(self._cleaned)

    def _cleaned(self, cleaning: asyncio.Task[None]) -> None:
        self._cleaning.discard(cleaning)
        if cleaning.cancelled():
            return
        if (error := cleaning.exception()) is not None:
            log.error("spare_browser_left", exc_info=error)
        self.look()

    def _count_failure(self, lived_s: float, **what: str | int | None) -> None:
        """Take note of a spare that is lost, and wait before the next one; of losses in a row only one is logged."""
        self._failures += 1
        self._failures_in_a_row = short_lives_after(self._failures_in_a_row, lived_s)
        delay_s = backoff_s(self._failures_in_a_row, rand=self._rand, max_s=LONGEST_DELAY_S)
        write = log.warning if self._failures_in_a_row <= 1 else log.debug
        write("spare_browser_lost", **what, lived_s=round(lived_s, 3), next_in_s=round(delay_s, 3))
        if self._delay is not None:
            self._delay.cancel()
        self._delay = asyncio.get_running_loop().call_later(delay_s, self._end_delay)

    def _end_delay(self) -> None:
        self._delay = None
        self.look()

    def end(self) -> None:
        """End all of them at once, and start none from now on."""
        self._ended = True
        if self._delay is not None:
            self._delay.cancel()
        for spare in self._spares:
            spare.deadline.cancel()
            spare.host.kill()

    async def close(self) -> None:
        """Do so, and wait until nothing of them is left, for CLOSE_S seconds at most."""
        self.end()
        if self._cleaning:
            _, late = await asyncio.wait(self._cleaning, timeout=CLOSE_S)
            for cleaning in late:
                cleaning.cancel()

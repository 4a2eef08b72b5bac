"""Alerts on their way: a queue in the order of what happened, each sent until the receiver has it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from contract.logs import AtMostEvery
from coordinator.alerts.alert import Alert, AlertKind
from coordinator.alerts.receiver import Outcome
from coordinator.supervision.lifecycle import backoff_s

log = structlog.get_logger(__name__)

_WARN_EVERY_S: Final = 60.0


class Destination(Protocol):
    """Where alerts go: see `Receiver`."""

    async def deliver(self, alert: Alert) -> Outcome:
        """Send it once; never raises for what the other end does."""

    async def close(self) -> None:
        """Close what it holds."""


class Counts(Protocol):
    """What is counted of alerts; see `coordinator.metrics`."""

    def alert_sent(self, kind: AlertKind) -> None:
        """The receiver has one."""

    def alert_failed(self, kind: AlertKind) -> None:
        """An attempt failed."""

    def alert_dropped(self, kind: AlertKind, why: str) -> None:
        """One is not told, or not when it happened: `bound`, `full`, `refused`."""


@dataclass(frozen=True)
class Patience:
    """How alerts are tried again: after delays that double, with jitter, for ever.

    One that the receiver has refused as wrong `refusals` times is given up: it would hold up all others.
    """

    first_s: float = 1.0
    longest_s: float = 300.0
    refusals: int = 5
    most_queued: int = 1000


class Sender:
    """Delivers alerts one by one, at least once, in order. Make it inside a running loop."""

    def __init__(  # noqa: PLR0913 - most by keyword
        self,
        receiver: Destination,
        counts: Counts,
        *,
        patience: Patience | None = None,
        queued: Iterable[Alert] = (),
        on_change: Callable[[], None] = lambda: None,
        rand: Callable[[], float] = random.random,
    ) -> None:
        """`queued` is sent first; `on_change` is called when the queue has changed.

        `rand` returns a number in [0, 1).
        """
        self._receiver, self._counts, self._patience, self._rand = receiver, counts, patience or Patience(), rand
        self._queue, self._on_change = deque(queued), on_change
        self._filled, self._ending = asyncio.Event(), asyncio.Event()
        self._warning = AtMostEvery(_WARN_EVERY_S)

    @property
    def has_room(self) -> bool:
        """Whether more may be told. What follows something that was told is taken in any case: see `put`."""
        return len(self._queue) < self._patience.most_queued

    def waiting(self) -> tuple[Alert, ...]:
        """Return the alerts that wait, in order."""
        return tuple(self._queue)

    def queued(self) -> Counter[AlertKind]:
        """Return how many alerts wait, by kind."""
        return Counter(alert.kind for alert in self._queue)

    def put(self, alert: Alert) -> None:
        """Have it sent after all that wait. Does not block.

        A recovery comes when there is no room, too: of those there are no more than conditions that were told.
        """
        self._queue.append(alert)
        self._filled.set()
        self._on_change()

    async def run(self) -> None:
        """Send what comes, until `close`; then what is left, each once, up to the first that fails."""
        failures = refusals = 0
        while not (self._ending.is_set() and not self._queue):
            if not self._queue:
                self._filled.clear()
                await self._wait_for(self._filled)
                continue
            alert = self._queue[0]
            outcome = await self._try(alert)
            if outcome.delivered:
                self._remove_first()
                failures = refusals = 0
                self._counts.alert_sent(alert.kind)
                log.info("alert_sent", kind=alert.kind, **_about(alert))
                continue
            failures += 1
            refusals += outcome.refused
            self._counts.alert_failed(alert.kind)
            if refusals >= self._patience.refusals:
                self._remove_first()
                refusals = 0
                self._counts.alert_dropped(alert.kind, "refused")
                log.error("alert_given_up", kind=alert.kind, problem=outcome.problem, **_about(alert))
            elif self._warning.due():
                log.warning("alert_not_delivered", problem=outcome.problem, failures=failures, queued=len(self._queue))
            if self._ending.is_set():
                return
            delay_s = backoff_s(
                failures, rand=self._rand, base_s=self._patience.first_s, max_s=self._patience.longest_s
            )
            await self._wait_for(self._ending, max(delay_s, outcome.retry_after_s))

    async def _try(self, alert: Alert) -> Outcome:
        try:
            return await self._receiver.deliver(alert)
        except Exception:
            # Not foreseen: the fault is ours, and may lie in this very alert.
            log.exception("sending_alert_failed")
            return Outcome(problem="an error in the program itself; its log has the place", refused=True)

    def _remove_first(self) -> None:
        self._queue.popleft()
        self._on_change()

    async def _wait_for(self, event: asyncio.Event, timeout_s: float | None = None) -> None:
        """Wait for this event, or for the end, up to so many seconds."""
        waits = {asyncio.ensure_future(one.wait()) for one in (event, self._ending)}
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def end(self) -> None:
        """Have `run` return soon: see there."""
        self._ending.set()

    async def close(self) -> None:
        """Close the connection, after `run` has ended."""
        with contextlib.suppress(Exception):  # nothing of it matters any more
            await self._receiver.close()


def _about(alert: Alert) -> dict[str, object]:
    return {name: alert.data[name] for name in ("child", "site", "recovered_from") if name in alert.data}

"""From what happens in the fleet to what an operator is told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

import structlog

from coordinator.alerts.alert import Alert, AlertKind, utc
from coordinator.alerts.conditions import Bounds, Conditions, Key
from coordinator.alerts.receiver import Receiver
from coordinator.alerts.sender import Counts, Destination, Patience, Sender
from coordinator.alerts.state_file import StateFile
from coordinator.proxy.pool import Pool
from coordinator.settings import Settings
from coordinator.supervision.canary import SiteStatus
from coordinator.supervision.events import ChildMoved, ChildStatus, FleetEvent, PageChanged, PageRecovered
from coordinator.supervision.lifecycle import STEADY_AFTER_S, Reason, State

log = structlog.get_logger(__name__)

LAST_ALERTS_S: Final = 2.0
"""How long alerts that still wait may take at the coordinator's end; the children take their time meanwhile."""

_DAY_S: Final = 86_400.0
_LONGEST_WHERE: Final = 500
_OF_REASON: Final = {
    Reason.LOGIN_EXPIRED: AlertKind.LOGIN_LOST,
    Reason.QUOTA: AlertKind.QUOTA,
    Reason.PAGE_BROKEN: AlertKind.PAGE_CHANGED,
    Reason.CRASH_LOOP: AlertKind.CRASH_LOOP,
}
_REJECTED: Final = "The profile that is there now is not accepted; GET /ready says why, under rejected_profiles."
_OVER_WHEN_READY: Final = (AlertKind.LOGIN_LOST, AlertKind.QUOTA, AlertKind.PAGE_CHANGED)


class Supervised(Protocol):
    """The children as they stand."""

    def snapshot(self) -> tuple[ChildStatus, ...]:
        """Return all children as they are now."""


class WatchedFleet(Protocol):
    """What is looked at every few seconds."""

    pool: Pool

    @property
    def supervisor(self) -> Supervised:
        """Who knows the children."""

    @property
    def ready(self) -> bool:
        """Whether a request would find a page."""

    def hydrated_at(self) -> float | None:
        """Return when profiles and keys were last fetched; None before there are children."""

    def rejected(self) -> frozenset[str]:
        """Return the names of the children that there are not, because their profiles are not accepted."""

    def site_checks(self) -> list[SiteStatus]:
        """Return what is known of each site's page."""


@dataclass(frozen=True)
class Thresholds:
    """When something is a condition: times in seconds.

    A login `expiry_warning_days` before it expires, unless its child keeps it alive; 0 never warns. A fleet that has
    had no ready child for `away_after_s`, or for `first_ready_s` after its start: one child that restarts is no alarm.
    A child that has not been ready for `page_broken_s`, and finds another page. A crash loop is over when the child
    has been READY for `steady_s`.
    """

    expiry_warning_days: float = 3.0
    away_after_s: float = 30.0
    first_ready_s: float = 90.0
    page_broken_s: float = 10.0
    steady_s: float = STEADY_AFTER_S
    look_every_s: float = 5.0


class Alerts:
    """A hook of the supervisor, and a look every few seconds. Make it inside a running loop.

    What the hook does is synchronous and short: telling is an append to a queue.
    """

    def __init__(  # noqa: PLR0913 - by keyword
        self,
        receiver: Destination,
        counts: Counts,
        *,
        thresholds: Thresholds | None = None,
        bounds: Bounds | None = None,
        patience: Patience | None = None,
        state_file: StateFile | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        cell: str | None = None,
    ) -> None:
        """`clock` is monotonic, `wall` in Unix seconds; `cell` is the coordinator's name among several."""
        self._clock, self._wall, self._thresholds = clock, wall, thresholds or Thresholds()
        self._state_file, self._changed = state_file, asyncio.Event()
        self._closing = self._saved = False
        self._sender = Sender(
            receiver,
            counts,
            patience=patience,
            queued=state_file.queued if state_file else (),
            on_change=self._changed.set,
        )

        def left_out(kind: AlertKind) -> None:
            why = "bound" if self._sender.has_room else "full"
            counts.alert_dropped(kind, why)
            log.warning("alert_left_out", kind=kind, why=why)

        def tell(alert: Alert) -> None:
            self._sender.put(alert if cell is None else replace(alert, data={"cell": cell, **alert.data}))

        self._conditions = Conditions(
            tell,
            has_room=lambda: self._sender.has_room,
            left_out=left_out,
            clock=clock,
            wall=wall,
            bounds=bounds,
            told=state_file.told if state_file else {},
        )
        self._fleet: WatchedFleet | None = None
        self._away_at: float | None = None
        """By the clock: when the fleet counts as away; None while it is ready, or before it was looked at."""
        self._was_seen = False
        self._had_children = {key.child for key in self._conditions.holding() if key.child is not None}
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings, counts: Counts) -> Alerts | None:
        """Return what the settings ask for, None without an `ALERT_URL`. Raises SettingsError."""
        receiver = Receiver.from_settings(settings)
        if receiver is None:
            return None
        state_file = StateFile(settings.alert_state_file) if settings.alert_state_file else None
        thresholds = Thresholds(
            expiry_warning_days=settings.expiry_warning_days, first_ready_s=settings.start_timeout_s + 30.0
        )
        return cls(receiver, counts, thresholds=thresholds, state_file=state_file, cell=settings.own_cell)

    # What happens

    def fleet_event(self, event: FleetEvent) -> None:
        """Take note of what happens to a child; a hook of the supervisor."""
        match event:
            case PageChanged():
                self.page_changed(event.site, _place_of(event), child=event.child)
            case PageRecovered():
                self.page_as_described(event.site)
            case ChildMoved():
                self._child_moved(event)

    def _child_moved(self, event: ChildMoved) -> None:
        self._had_children.add(event.child)
        if event.new.state is State.READY:
            for kind in _OVER_WHEN_READY:
                self._conditions.end(Key(kind, event.child))
        elif event.reason in _OF_REASON:
            self._conditions.begin(Key(_OF_REASON[event.reason], event.child), reason=event.reason)

    def page_changed(self, site: str, where: str, *, child: str | None = None) -> None:
        """Tell that a site's page is not what its file says any more, until `page_as_described`.

        `where` is a line for people: file, line and selector; `child` is whose login was tried.
        """
        line = " ".join(where.split())[:_LONGEST_WHERE]
        facts = {"where": line, "reason": Reason.PAGE_BROKEN, **({"child": child} if child else {})}
        self._conditions.begin(Key(AlertKind.PAGE_CHANGED, site=site), **facts)

    def page_as_described(self, site: str) -> None:
        """Tell that a site's page is what its file says, if it was told that it is not."""
        self._conditions.end(Key(AlertKind.PAGE_CHANGED, site=site))

    # What is looked at

    def watch(self, fleet: WatchedFleet) -> None:
        """Look at this fleet from `start` on."""
        self._fleet = fleet

    def queued(self) -> Counter[AlertKind]:
        """Return how many alerts wait, by kind."""
        return self._sender.queued()

    def look(self) -> None:
        """Find what no event tells: logins that expire, children that are gone, how long the fleet has been away."""
        fleet = self._fleet
        # While it ends, children that go are no news.
        if fleet is None or fleet.hydrated_at() is None or fleet.pool.draining:
            return
        children = fleet.supervisor.snapshot()
        own = tuple(child for child in children if not child.is_elsewhere)
        for child in own:
            self._look_at(child)
        names, rejected = {child.name for child in children}, fleet.rejected()
        elsewhere = names - {child.name for child in own}
        for key in self._conditions.holding():
            if key.child in elsewhere:
                self._conditions.end(key, reason=Reason.MOVED)
            elif key.child is not None and key.child not in names and key.child not in rejected:
                self._conditions.end(key, reason=Reason.PROFILE_GONE)
        for name in sorted(self._had_children & rejected - names):
            self._conditions.begin(Key(AlertKind.LOGIN_LOST, name), message=_REJECTED)
        self._look_at_sites({site.site: site.ok for site in fleet.site_checks()})
        self._look_at_all(own, ready=fleet.ready)
        self._conditions.look()

    def _look_at(self, child: ChildStatus) -> None:
        now, thresholds = self._wall(), self._thresholds
        expires, expires_at = Key(AlertKind.LOGIN_EXPIRES, child.name), child.login_expires_at
        warning_s = thresholds.expiry_warning_days * _DAY_S
        if warning_s and expires_at is not None and not child.login_kept and expires_at - now <= warning_s:
            days_left = round(max(0.0, expires_at - now) / _DAY_S, 2)
            self._conditions.begin(expires, expires_at=utc(expires_at), days_left=days_left)
        elif expires_at is not None or child.state is State.READY:  # before its first start nobody knows
            self._conditions.end(expires)

        lasts_s = now - child.since
        if child.state is State.READY and lasts_s >= thresholds.steady_s:
            self._conditions.end(Key(AlertKind.CRASH_LOOP, child.name))
        # A start, and a child that was unhealthy for another reason, find it without an event.
        broken = child.state in (State.STARTING, State.UNHEALTHY) and child.reason is Reason.PAGE_BROKEN
        if broken and lasts_s >= thresholds.page_broken_s:
            self._conditions.begin(Key(AlertKind.PAGE_CHANGED, child.name), reason=Reason.PAGE_BROKEN)

    def _look_at_sites(self, sites: Mapping[str, bool | None]) -> None:
        """End what no event ends: of sites that no login has any more, and what was told before the last restart."""
        for key in self._conditions.holding():
            if key.site is not None and key.site not in sites:
                self._conditions.end(key, reason=Reason.PROFILE_GONE)
            elif key.site is not None and sites[key.site]:
                self._conditions.end(key)

    def _look_at_all(self, children: tuple[ChildStatus, ...], *, ready: bool) -> None:
        now, key = self._clock(), Key(AlertKind.ALL_AWAY)
        # In a cell that has no login, by its share or because other cells have claimed them all, nothing is away.
        if ready or not children:
            self._away_at = None
            self._conditions.end(key)
        elif self._away_at is None:
            limit_s = self._thresholds.away_after_s if self._was_seen else self._thresholds.first_ready_s
            self._away_at = now + limit_s
        elif now >= self._away_at:
            self._conditions.begin(key, children=dict(Counter(child.state for child in children)))
        self._was_seen = True

    # Its life

    def start(self) -> None:
        """Begin to look and to send."""
        self._tasks = (
            asyncio.create_task(self._sender.run(), name="send alerts"),
            asyncio.create_task(self._look_often(), name="look for alerts"),
            asyncio.create_task(self._save_changes(), name="save alerts"),
        )
        for task in self._tasks:
            task.add_done_callback(_log_failure)

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(self._thresholds.look_every_s)
            try:
                self.look()
            except Exception:
                log.exception("look_for_alerts_failed")

    async def _save_changes(self) -> None:
        # What changes during the last write has to be written, too.
        while self._state_file is not None and (self._changed.is_set() or not self._closing):
            await self._changed.wait()
            self._changed.clear()
            self._saved = False  # of the newest, which this is about
            try:
                await asyncio.to_thread(self._state_file.write, self._sender.waiting(), self._conditions.told())
                self._saved = True
            except Exception as error:  # noqa: BLE001 - the next change may be saved
                log.warning("alert_state_not_saved", error=getattr(error, "strerror", None) or type(error).__name__)

    async def close(self, limit_s: float = LAST_ALERTS_S) -> None:
        """Give alerts that still wait this long, in seconds, and as long again to be saved; then end."""
        if not self._tasks:
            return
        sending, looking, saving = self._tasks
        looking.cancel()
        self._sender.end()
        await asyncio.wait({sending}, timeout=limit_s)
        sending.cancel()
        await asyncio.wait({sending})
        # Not cancelled: a thread that writes what was before would not stop, and could be the last to write.
        self._closing = True
        self._changed.set()
        await asyncio.wait({saving}, timeout=limit_s)
        await self._sender.close()
        if waiting := self._sender.queued():
            log.warning("alerts_not_delivered", queued=dict(waiting), kept=self._saved)


def _place_of(changed: PageChanged) -> str:
    """Return where in the site file to look, as far as that is known."""
    line = None if changed.line is None else f"line {changed.line}"
    place = ", ".join(part for part in (changed.file, line, changed.key) if part)
    return f"{place}: {changed.selector}" if changed.selector else place


def _log_failure(task: asyncio.Task[None]) -> None:
    """Log what ended a task by an error of the program itself: the fleet goes on without alerts."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("alerting_failed", task=task.get_name(), exc_info=error)

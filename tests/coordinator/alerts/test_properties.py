"""Alerts of the real supervisor under any order of deaths, probes, reloads and orders, without processes and time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import initialize, invariant, rule

from coordinator.alerts.alert import Alert, AlertKind
from coordinator.alerts.alerts import Alerts, Thresholds
from coordinator.alerts.conditions import Bounds
from coordinator.alerts.receiver import Outcome
from coordinator.alerts.sender import Patience
from coordinator.supervision.canary import SiteStatus
from coordinator.supervision.lifecycle import Reason, State
from tests.coordinator.alerts.test_delivery import Counted
from tests.coordinator.supervision.test_supervisor_properties import SupervisorMachine
from tests.support.size import size

UNBOUNDED = 10**9
PAGE_BROKEN_S = 0.5
LASTS = {
    (State.FAILED, Reason.LOGIN_EXPIRED): AlertKind.LOGIN_LOST,
    (State.RESTING, Reason.QUOTA): AlertKind.QUOTA,
    (State.RESTING, Reason.CRASH_LOOP): AlertKind.CRASH_LOOP,
}
"""What a child in this state, for this reason, must have been told of."""
NOT_WHEN_READY = {AlertKind.LOGIN_LOST, AlertKind.QUOTA, AlertKind.PAGE_CHANGED}
Condition = tuple[AlertKind, str | None]


class Nobody:
    """Is never sent anything: what is told is read off the queue."""

    async def deliver(self, alert: Alert) -> Outcome:
        raise AssertionError("nothing is sent here")

    async def close(self) -> None:
        """Nothing is open."""


class AlertingMachine(SupervisorMachine):
    def __init__(self) -> None:
        super().__init__()
        self.alerts = Alerts(
            Nobody(),
            Counted(),
            thresholds=Thresholds(away_after_s=1.0, first_ready_s=3.0, page_broken_s=PAGE_BROKEN_S, steady_s=1.0),
            bounds=Bounds(of_a_kind=UNBOUNDED, of_one=UNBOUNDED),
            patience=Patience(most_queued=UNBOUNDED),
            clock=self.loop.time,
            wall=self.loop.time,
        )
        self.fed = 0
        self.open: set[Condition] = set()
        self.read = 0

    @property
    def ready(self) -> bool:
        return self.supervisor.ready

    def hydrated_at(self) -> float | None:
        return 0.0

    def rejected(self) -> frozenset[str]:
        return frozenset()

    def site_checks(self) -> list[SiteStatus]:
        return []

    @initialize()
    def watch(self) -> None:
        self.alerts.watch(self)

    @rule()
    def the_fleet_is_looked_at(self) -> None:
        self.alerts.look()
        self.each_beginning_and_end_is_told_once()
        names = {child.name for child in self.children}
        assert {child for _, child in self.open} <= {None, *names}, "who is gone is not lost"
        if self.ready:
            assert (AlertKind.ALL_AWAY, None) not in self.open
        for child in self.children:
            broken = child.phase.state in (State.STARTING, State.UNHEALTHY) and child.reason is Reason.PAGE_BROKEN
            if broken and self.loop.time() - child.since >= PAGE_BROKEN_S:
                assert (AlertKind.PAGE_CHANGED, child.name) in self.open

    @invariant()
    def each_beginning_and_end_is_told_once(self) -> None:
        """Read what is new in the queue, as a receiver would, with what it knows."""
        for event in self.events[self.fed :]:
            self.alerts.fleet_event(event)
        self.fed = len(self.events)
        waiting = self.alerts._sender.waiting()
        for alert in waiting[self.read :]:
            about = alert.data.get("child")
            if alert.kind is AlertKind.RECOVERED:
                self.open.remove((alert.data["recovered_from"], about))  # which was told before, or this fails
            else:
                assert (alert.kind, about) not in self.open, "told twice"
                self.open.add((alert.kind, about))
        self.read = len(waiting)

    @invariant()
    def what_lasts_is_told_and_what_is_over_too(self) -> None:
        self.each_beginning_and_end_is_told_once()
        for child in self.children:
            kind = LASTS.get((child.phase.state, child.reason)) if child.reason else None
            assert kind is None or (kind, child.name) in self.open
            if child.phase.state is State.READY:
                assert not {(kind, child.name) for kind in NOT_WHEN_READY} & self.open


AlertingMachine.TestCase.settings = settings(max_examples=size(25, 150), stateful_step_count=60, deadline=None)
TestAlerts = AlertingMachine.TestCase

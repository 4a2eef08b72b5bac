"""Counters for Prometheus, fed by hooks: https://prometheus.io/docs/practices/naming/

Every label has a closed set of values: states, reasons, outcomes, the error codes of this program, and the names of
children, which are those of the operator's profiles.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from coordinator.alerts.alert import AlertKind
from coordinator.claims.keeper import ClaimsStatus
from coordinator.proxy.application import RequestDone
from coordinator.proxy.pool import Pool
from coordinator.shard import Shard
from coordinator.supervision.canary import SiteStatus
from coordinator.supervision.events import (
    ChildExited,
    ChildMoved,
    ChildReady,
    ChildStarted,
    FleetEvent,
    LoginRefreshed,
    SessionReported,
)
from coordinator.supervision.launcher import SpareBrowsers
from coordinator.supervision.lifecycle import State

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ENDING: Final = frozenset({State.DRAINING, State.STOPPING})
_SECONDS: Final = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 120, 300)


class WatchedFleet(Protocol):
    """What gauges are read off."""

    pool: Pool

    @property
    def ready(self) -> bool:
        """Whether a request would find a page."""

    def states(self) -> list[State]:
        """Return the state of each child."""

    def login_days_left(self) -> Mapping[str, float]:
        """Return in how many days each login expires, by its child's name, as far as that is known."""

    def site_checks(self) -> list[SiteStatus]:
        """Return what is known of each site's page."""

    def hydrated_at(self) -> float | None:
        """Return when profiles and keys were last fetched, in Unix seconds."""

    def oldest_session_at(self) -> float | None:
        """Return when the session was saved that has not been saved for longest, in Unix seconds."""

    def claims(self) -> ClaimsStatus | None:
        """Return how this cell's claims stand; None where there are none."""

    def session_uploads(self) -> tuple[int, int] | None:
        """Return how many uploads of sessions succeeded and how many failed; None without SESSION_DIR."""

    def spare_browsers(self) -> SpareBrowsers | None:
        """Return what there is of spare browsers; None without SPARE_BROWSERS."""


class Metrics:
    """All counters of one coordinator, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "tabfleet_requests",
            "Chat requests by outcome, and by error code where there is one",
            ["outcome", "code"],
            registry=registry,
        )
        self._duration = Histogram(
            "tabfleet_request_duration_seconds", "Whole chat requests", buckets=_SECONDS, registry=registry
        )
        self._waited = Histogram(
            "tabfleet_queue_wait_seconds",
            "Waiting for a child, granted or not",
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_token = Histogram(
            "tabfleet_time_to_first_token_seconds",
            "Time from the edge to the first piece of a streamed answer",
            buckets=_SECONDS,
            registry=registry,
        )
        self._chunks = Counter("tabfleet_stream_chunks", "Chunks of streamed answers", registry=registry)
        self._retries = Counter(
            "tabfleet_request_retries", "Unsubmitted requests given to another child", registry=registry
        )
        self._repeats = Counter(
            "tabfleet_request_repeats",
            "Requests with an Idempotency-Key that got the answer of an earlier one, by how",
            ["how"],
            registry=registry,
        )
        self._starts = Counter("tabfleet_child_starts", "Children's processes started", registry=registry)
        self._restarts = Counter(
            "tabfleet_child_restarts", "Children started again, by why the last one ended", ["cause"], registry=registry
        )
        self._moves = Counter(
            "tabfleet_child_state_changes",
            "Children's changes of state, by the new state and the reason",
            ["state", "reason"],
            registry=registry,
        )
        self._start_time = Histogram(
            "tabfleet_child_start_seconds", "From a child's start to READY", buckets=_SECONDS, registry=registry
        )
        self._refreshes = Counter(
            "tabfleet_login_refreshes", "Refreshes of idle logins, by outcome", ["outcome"], registry=registry
        )
        self._hydration = Histogram(
            "tabfleet_hydration_duration_seconds", "Fetching profiles and keys", buckets=_SECONDS, registry=registry
        )
        self._failed_hydrations = Counter(
            "tabfleet_hydration_failures", "Reloads that failed and changed nothing", registry=registry
        )
        self._session_saves = Counter("tabfleet_session_saves", "Logins' sessions saved", registry=registry)
        self._failed_saves = Counter(
            "tabfleet_session_save_failures", "Sessions that could not be saved", registry=registry
        )
        self._alerts_sent = Counter(
            "tabfleet_alerts_sent", "Alerts that the receiver has, by kind", ["kind"], registry=registry
        )
        self._alerts_failed = Counter(
            "tabfleet_alert_failures", "Attempts to send an alert that failed, by kind", ["kind"], registry=registry
        )
        self._alerts_dropped = Counter(
            "tabfleet_alerts_dropped",
            "Alerts that were not sent when they were due, by kind, for an hour's bound, a full queue or a refusal",
            ["kind", "why"],
            registry=registry,
        )
        self._end_reasons: dict[str, str] = {}
        self._ended = cache(self._requests.labels)  # which looks at each label's type and value every time

    def name_cell(self, cell: str, shard: Shard | None) -> None:
        """Say which of several coordinators this is, in an info metric that others are joined with by `instance`.

        Not as a label of every metric, where it would say again what `instance` says.
        """
        labels = {"cell": cell, "shard": "" if shard is None else str(shard)}
        Info("tabfleet_cell", "This coordinator's name, and its share of the logins", registry=self.registry).info(
            labels
        )

    def watch(self, fleet: WatchedFleet) -> None:
        """Add the gauges that are read off the fleet at each scrape."""
        self.registry.register(_FleetCollector(fleet))

    def watch_alerts(self, queued: Callable[[], Mapping[AlertKind, int]]) -> None:
        """Add how many alerts wait, read at each scrape."""
        # A counter that is not there before its first event has no rate for it.
        for kind in AlertKind:
            self._alerts_sent.labels(kind)
            self._alerts_failed.labels(kind)
        self.registry.register(_AlertCollector(queued))

    def alert_sent(self, kind: AlertKind) -> None:
        """Count an alert that the receiver has."""
        self._alerts_sent.labels(kind).inc()

    def alert_failed(self, kind: AlertKind) -> None:
        """Count an attempt that failed."""
        self._alerts_failed.labels(kind).inc()

    def alert_dropped(self, kind: AlertKind, why: str) -> None:
        """Count an alert that is not sent, or not when it was due: `bound`, `full` or `refused`."""
        self._alerts_dropped.labels(kind, why).inc()

    def request_done(self, done: RequestDone) -> None:
        """Count a request that has ended; a hook of the proxy."""
        stats = done.stats
        self._ended(stats.outcome, stats.code or "").inc()
        self._duration.observe(done.duration_s)
        if stats.queued_s is not None:
            self._waited.observe(stats.queued_s)
        if stats.first_token_s is not None:
            self._first_token.observe(stats.first_token_s)
        if stats.chunks:
            self._chunks.inc(stats.chunks)
        if stats.retries:
            self._retries.inc(stats.retries)
        if stats.repeat is not None:
            self._repeats.labels(stats.repeat).inc()

    def fleet_event(self, event: FleetEvent) -> None:
        """Count what happens to a child; a hook of the supervisor."""
        match event:
            case ChildMoved():
                self._moves.labels(event.new.state, event.reason or "").inc()
                # An exit that was asked for tells nothing of the cause; what asked for it does.
                if event.new.state in _ENDING and event.reason is not None:
                    self._end_reasons[event.child] = event.reason
            case ChildStarted():
                self._starts.inc()
                if event.child in self._end_reasons:
                    self._restarts.labels(self._end_reasons.pop(event.child)).inc()
            case ChildReady():
                self._start_time.observe(event.start_s)
            case SessionReported():
                self._session_saves.inc(event.new_saves)
                self._failed_saves.inc(event.new_failures)
            case LoginRefreshed():
                self._refreshes.labels("refreshed").inc(event.refreshed)
                self._refreshes.labels("failed").inc(event.failed)
            case ChildExited(expected=False):
                self._end_reasons[event.child] = event.reason

    def hydrated(self, took_s: float, *, ok: bool) -> None:
        """Count a hydration that took so many seconds, or failed."""
        if ok:
            self._hydration.observe(took_s)
        else:
            self._failed_hydrations.inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _FleetCollector(Collector):
    def __init__(self, fleet: WatchedFleet) -> None:
        self._fleet = fleet

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Yield nothing: registering must not read a fleet that is still being made."""
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the gauges as they are now."""
        fleet = self._fleet
        children = GaugeMetricFamily("tabfleet_children", "Children by state", labels=["state"])
        tally = Tally(fleet.states())
        for state in State:
            children.add_metric([state.value], tally[state])
        yield children
        ready, pool = float(fleet.ready), fleet.pool
        yield GaugeMetricFamily("tabfleet_ready", "1 when requests are served", value=ready)
        yield GaugeMetricFamily("tabfleet_queue_length", "Requests that wait for a child", value=pool.queue_length)
        yield GaugeMetricFamily("tabfleet_leases_held", "Requests that a child works on", value=pool.leases_held)
        text = "Days until a child's login expires by its cookies, negative once it has; absent where they do not say"
        expires = GaugeMetricFamily("tabfleet_login_expires_in_days", text, labels=["child"])
        for child, days in fleet.login_days_left().items():
            expires.add_metric([child], days)
        yield expires
        yield from _of_sites(fleet.site_checks())
        if (claims := fleet.claims()) is not None:
            yield from _of_claims(claims)
        hydrated_at = fleet.hydrated_at()
        if hydrated_at is not None:
            text = "When profiles and keys were last fetched, in Unix seconds"
            yield GaugeMetricFamily("tabfleet_hydration_timestamp_seconds", text, value=hydrated_at)
        oldest, uploads = fleet.oldest_session_at(), fleet.session_uploads()
        if oldest is not None:
            text = "When the session was saved that has not been saved for longest, in Unix seconds"
            yield GaugeMetricFamily("tabfleet_session_oldest_save_timestamp_seconds", text, value=oldest)
        if uploads is not None:
            yield CounterMetricFamily("tabfleet_session_uploads", "Sessions uploaded to S3", value=uploads[0])
            text = "Sessions that could not be uploaded"
            yield CounterMetricFamily("tabfleet_session_upload_failures", text, value=uploads[1])
        spares = fleet.spare_browsers()
        if spares is not None:
            text = "Browsers without a login that are ready for the next start"
            yield GaugeMetricFamily("tabfleet_spare_browsers", text, value=spares.ready)
            text = "Children that were started in a spare browser"
            yield CounterMetricFamily("tabfleet_spare_browsers_taken", text, value=spares.taken)
            text = "Spare browsers that were lost before a child took them, or could not be started"
            yield CounterMetricFamily("tabfleet_spare_browser_failures", text, value=spares.failures)


class _AlertCollector(Collector):
    def __init__(self, queued: Callable[[], Mapping[AlertKind, int]]) -> None:
        self._queued = queued

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield how many alerts wait now."""
        queued = self._queued()
        gauge = GaugeMetricFamily("tabfleet_alerts_queued", "Alerts that wait to be sent, by kind", labels=["kind"])
        for kind in AlertKind:
            gauge.add_metric([kind.value], queued.get(kind, 0))
        yield gauge


def _of_claims(claims: ClaimsStatus) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    text = "Logins whose claims this cell has"
    yield GaugeMetricFamily("tabfleet_claims_held", text, value=claims.held)
    text = "Claims that ended without having been given back"
    yield CounterMetricFamily("tabfleet_claims_lost", text, value=claims.lost)
    text = "1 while the store of claims answers this cell"
    yield GaugeMetricFamily("tabfleet_claim_store_reached", text, value=float(claims.store_reached))


def _of_sites(sites: list[SiteStatus]) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
    """Yield what the checks of sites have found; a site that was not checked yet has only its count of failures."""
    ok = GaugeMetricFamily("tabfleet_site_check_ok", "1 when a site's page is what its file says", labels=["site"])
    text = "When a check of a site's page last ended, in Unix seconds"
    checked_at = GaugeMetricFamily("tabfleet_site_check_timestamp_seconds", text, labels=["site"])
    text = "Checks that found a site's page changed"
    failures = CounterMetricFamily("tabfleet_site_check_failures", text, labels=["site"])
    for site in sites:
        failures.add_metric([site.site], site.failures)
        if site.ok is not None and site.checked_at is not None:
            ok.add_metric([site.site], site.ok)
            checked_at.add_metric([site.site], site.checked_at)
    yield from (ok, checked_at, failures)

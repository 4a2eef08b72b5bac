"""Counters that the hooks feed, in Prometheus' text format."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract.child_api import SessionReport
from coordinator.claims.keeper import ClaimsStatus, Trouble
from coordinator.metrics import Metrics
from coordinator.proxy.application import RequestDone
from coordinator.proxy.exchange import Outcome, Repeat, RequestStats
from coordinator.proxy.pool import Backend, Pool
from coordinator.shard import Shard
from coordinator.supervision.canary import SiteStatus
from coordinator.supervision.events import (
    ChildExited,
    ChildMoved,
    ChildReady,
    ChildStarted,
    LoginRefreshed,
    SessionReported,
)
from coordinator.supervision.launcher import SpareBrowsers
from coordinator.supervision.lifecycle import Event, Phase, Reason, State


@dataclass
class ShownFleet:
    """What the gauges look at."""

    pool: Pool = field(default_factory=lambda: Pool(max_queue=100))
    ready: bool = True
    at: float | None = None
    saved_at: float | None = None
    uploads: tuple[int, int] | None = None
    days_left: dict[str, float] = field(default_factory=dict)
    sites: list[SiteStatus] = field(default_factory=list)
    of_claims: ClaimsStatus | None = None

    spares: SpareBrowsers | None = None

    def claims(self) -> ClaimsStatus | None:
        return self.of_claims

    def login_days_left(self) -> dict[str, float]:
        return self.days_left

    def states(self) -> list[State]:
        return [State.READY, State.READY, State.FAILED]

    def site_checks(self) -> list[SiteStatus]:
        return self.sites

    def hydrated_at(self) -> float | None:
        return self.at

    def oldest_session_at(self) -> float | None:
        return self.saved_at

    def session_uploads(self) -> tuple[int, int] | None:
        return self.uploads

    def spare_browsers(self) -> SpareBrowsers | None:
        return self.spares


DRAINING = Phase(State.DRAINING, State.STANDBY)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {
        (sample.name, tuple(sample.labels.values())): sample.value for family in families for sample in family.samples
    }


def done(outcome: Outcome, code: str | None = None, **stats: float | Repeat) -> RequestDone:
    return RequestDone("id", RequestStats(outcome, code, **stats), duration_s=2.0)  # type: ignore[arg-type]


def test_requests_are_counted_by_outcome_and_code() -> None:
    metrics = Metrics()
    metrics.request_done(done(Outcome.ANSWERED, queued_s=0.5, first_token_s=0.2, chunks=7))
    metrics.request_done(done(Outcome.ANSWERED))
    metrics.request_done(done(Outcome.FAILED, "child_lost", retries=1))
    metrics.request_done(done(Outcome.FAILED, "child_lost", repeat=Repeat.REPLAYED))
    seen = samples(metrics)
    assert seen["tabfleet_request_repeats_total", ("replayed",)] == 1
    assert seen["tabfleet_requests_total", ("", "answered")] == 2
    assert seen["tabfleet_requests_total", ("child_lost", "failed")] == 2
    assert seen["tabfleet_request_duration_seconds_sum", ()] == 8
    assert seen["tabfleet_queue_wait_seconds_sum", ()] == 0.5
    assert seen["tabfleet_queue_wait_seconds_count", ()] == 1, "who was refused before does not count as served at once"
    assert seen["tabfleet_time_to_first_token_seconds_count", ()] == 1
    assert seen["tabfleet_stream_chunks_total", ()] == 7
    assert seen["tabfleet_request_retries_total", ()] == 1


def test_restarts_are_counted_by_the_reason_of_the_last_exit() -> None:
    metrics = Metrics()
    metrics.fleet_event(ChildStarted("a", 1, 100, "http://127.0.0.1:1"))
    metrics.fleet_event(ChildReady("a", 1, 0.4))
    ended = ChildExited(
        "a", 1, exit_code=70, reason=Reason.BROWSER_LOST, expected=False, lived_s=1, ready_s=1, last_lines=()
    )
    metrics.fleet_event(ended)
    metrics.fleet_event(ChildStarted("a", 2, 101, "http://127.0.0.1:1"))
    metrics.fleet_event(ChildStarted("b", 1, 102, "http://127.0.0.1:2"))
    seen = samples(metrics)
    assert seen["tabfleet_child_starts_total", ()] == 3
    assert {key: value for key, value in seen.items() if key[0] == "tabfleet_child_restarts_total"} == {
        ("tabfleet_child_restarts_total", ("browser_lost",)): 1
    }
    assert seen["tabfleet_child_start_seconds_count", ()] == 1


def test_an_ordered_restart_is_counted_by_what_ordered_it() -> None:
    metrics = Metrics()
    metrics.fleet_event(ChildStarted("a", 1, 100, "http://127.0.0.1:1"))
    for old, new in ((Phase(State.READY), DRAINING), (DRAINING, Phase(State.STOPPING, State.STANDBY))):
        moved = ChildMoved("a", 1, old=old, new=new, cause=Event.IDLE, reason=Reason.MEMORY_LIMIT, detail=None)
        metrics.fleet_event(moved)
    metrics.fleet_event(
        ChildExited("a", 1, exit_code=0, reason=Reason.EXITED, expected=True, lived_s=1, ready_s=1, last_lines=())
    )
    metrics.fleet_event(ChildStarted("a", 2, 101, "http://127.0.0.1:1"))
    seen = samples(metrics)
    restarts = {key: value for key, value in seen.items() if key[0] == "tabfleet_child_restarts_total"}
    assert restarts == {("tabfleet_child_restarts_total", ("memory_limit",)): 1}


def test_changes_of_state_are_counted_with_their_reason() -> None:
    metrics = Metrics()
    lost = ChildMoved(
        "a",
        1,
        old=Phase(State.READY),
        new=Phase(State.UNHEALTHY),
        cause=Event.PROBE_FAILED,
        reason=Reason.BROWSER_LOST,
        detail="secret detail",
    )
    metrics.fleet_event(lost)
    assert samples(metrics)["tabfleet_child_state_changes_total", ("browser_lost", "UNHEALTHY")] == 1
    assert b"secret" not in metrics.text()


def test_refreshes_of_logins_are_counted_by_their_outcome() -> None:
    metrics = Metrics()
    metrics.fleet_event(LoginRefreshed("a", 1, refreshed=2, failed=1))
    metrics.fleet_event(LoginRefreshed("b", 1, refreshed=1, failed=0))
    seen = samples(metrics)
    assert seen["tabfleet_login_refreshes_total", ("refreshed",)] == 3
    assert seen["tabfleet_login_refreshes_total", ("failed",)] == 1


async def test_gauges_show_the_fleet_as_it_is() -> None:
    metrics, fleet = Metrics(), ShownFleet()
    fleet.pool.put(Backend("a", "http://127.0.0.1:1", models=("m",), ready=True))
    metrics.watch(fleet)
    lease = fleet.pool.try_acquire("m")
    assert lease is not None
    seen = samples(metrics)
    assert seen["tabfleet_children", ("READY",)] == 2
    assert seen["tabfleet_children", ("FAILED",)] == 1
    assert seen["tabfleet_children", ("STARTING",)] == 0
    assert seen["tabfleet_leases_held", ()] == 1
    assert seen["tabfleet_queue_length", ()] == 0
    assert seen["tabfleet_ready", ()] == 1
    assert ("tabfleet_hydration_timestamp_seconds", ()) not in seen
    assert not [name for name, _ in seen if name == "tabfleet_login_expires_in_days"], "nothing is known"
    lease.release()
    fleet.ready, fleet.at, fleet.days_left = False, 1.75e9, {"a": 2.5, "b": -1.0}
    seen = samples(metrics)
    assert seen["tabfleet_leases_held", ()] == 0
    assert seen["tabfleet_ready", ()] == 0
    assert seen["tabfleet_hydration_timestamp_seconds", ()] == 1.75e9
    assert (seen["tabfleet_login_expires_in_days", ("a",)], seen["tabfleet_login_expires_in_days", ("b",)]) == (2.5, -1)


def test_saved_sessions_are_counted_and_the_oldest_is_shown() -> None:
    metrics, fleet = Metrics(), ShownFleet()
    metrics.watch(fleet)
    without = samples(metrics)
    assert not any("session_oldest" in name or "session_upload" in name for name, _ in without)
    metrics.fleet_event(SessionReported("a", 1, SessionReport(2, 1), new_saves=2, new_failures=1))
    metrics.fleet_event(SessionReported("a", 1, SessionReport(3, 1), new_saves=1, new_failures=0))
    fleet.saved_at, fleet.uploads = 1.75e9, (5, 2)
    seen = samples(metrics)
    assert seen["tabfleet_session_saves_total", ()] == 3
    assert seen["tabfleet_session_save_failures_total", ()] == 1
    assert seen["tabfleet_session_oldest_save_timestamp_seconds", ()] == 1.75e9
    assert seen["tabfleet_session_uploads_total", ()] == 5
    assert seen["tabfleet_session_upload_failures_total", ()] == 2


def test_spare_browsers_are_shown_where_they_are_wanted() -> None:
    metrics, fleet = Metrics(), ShownFleet()
    metrics.watch(fleet)
    assert not any("spare" in name for name, _ in samples(metrics))
    fleet.spares = SpareBrowsers(wanted=2, ready=1, taken=5, failures=3)
    seen = samples(metrics)
    assert seen["tabfleet_spare_browsers", ()] == 1
    assert seen["tabfleet_spare_browsers_taken_total", ()] == 5
    assert seen["tabfleet_spare_browser_failures_total", ()] == 3


@pytest.mark.parametrize("ok", [True, False])
def test_hydrations_are_timed_and_their_failures_counted(ok: bool) -> None:
    metrics = Metrics()
    metrics.hydrated(1.5, ok=ok)
    seen = samples(metrics)
    assert seen["tabfleet_hydration_duration_seconds_sum", ()] == (1.5 if ok else 0)
    assert seen["tabfleet_hydration_failures_total", ()] == (0 if ok else 1)


def test_metric_names_have_a_prefix_and_process_metrics_are_included() -> None:
    text = Metrics().text().decode()
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert "process_resident_memory_bytes" in names
    assert all(name.startswith(("tabfleet_", "process_")) for name in names)


def test_the_check_of_a_site_is_unknown_until_it_has_ended() -> None:
    metrics, fleet = Metrics(), ShownFleet()
    metrics.watch(fleet)
    new = SiteStatus("mine", "mine.toml", ok=None, checked_at=None, failures=0, found=None, new_file=None)
    fleet.sites = [new]
    seen = samples(metrics)
    assert seen["tabfleet_site_check_failures_total", ("mine",)] == 0
    assert not {"tabfleet_site_check_ok", "tabfleet_site_check_timestamp_seconds"} & {name for name, _ in seen}
    fleet.sites = [
        replace(new, ok=False, checked_at=123.0, failures=2),
        replace(new, site="b", ok=True, checked_at=4.0),
    ]
    seen = samples(metrics)
    assert (seen["tabfleet_site_check_ok", ("mine",)], seen["tabfleet_site_check_ok", ("b",)]) == (0, 1)
    assert seen["tabfleet_site_check_timestamp_seconds", ("mine",)] == 123
    assert seen["tabfleet_site_check_failures_total", ("mine",)] == 2


def test_claims_are_counted_where_there_are_any() -> None:
    metrics, fleet = Metrics(), ShownFleet()
    metrics.watch(fleet)
    assert not {name for name, _ in samples(metrics) if "claim" in name}
    fleet.of_claims = ClaimsStatus(held=3, cells=("a", "b"), trouble="away", lost=2)
    seen = {name: value for (name, _), value in samples(metrics).items() if "claim" in name}
    assert seen == {"tabfleet_claims_held": 3, "tabfleet_claims_lost_total": 2, "tabfleet_claim_store_reached": 0}
    fleet.of_claims = ClaimsStatus(trouble="no place for sessions", reason=Trouble.SESSIONS_UNUSABLE)
    assert samples(metrics)["tabfleet_claim_store_reached", ()] == 1


def test_a_cell_is_named_by_one_metric_and_no_label_of_others() -> None:
    metrics = Metrics()
    metrics.name_cell("tabfleet-1", Shard(1, 3))
    assert 'tabfleet_cell_info{cell="tabfleet-1",shard="1/3"} 1.0' in metrics.text().decode()
    assert metrics.text().decode().count("tabfleet-1") == 1
    assert "tabfleet_cell" not in Metrics().text().decode()

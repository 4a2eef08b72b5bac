"""What probes come to: counts, an unconfirmed cancel, the time of being READY."""

from __future__ import annotations

import json

import pytest

from contract.child_api import AWAY, Readiness, UnreadyReason
from coordinator.supervision.health import Health
from coordinator.supervision.lifecycle import Event, Reason, State
from coordinator.supervision.policy import Policy
from coordinator.supervision.ready_probe import ProbeResult, read_ready

POLICY = Policy(unhealthy_after=3, healthy_after=2)
READY = ProbeResult.of(Readiness(None))
BUSY = ProbeResult.of(Readiness(None, busy=True))
BROKEN = ProbeResult.of(Readiness(UnreadyReason.PAGE_BROKEN))
SILENT = ProbeResult(Reason.PROBE_FAILED)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def health() -> Health:
    return Health(POLICY, Clock())


def test_a_child_is_unhealthy_after_failures_in_a_row() -> None:
    one = health()
    for result in (BROKEN, SILENT, READY, BROKEN, SILENT):
        assert one.judge(result, State.READY) in (None, Event.PROBE_OK)
    assert one.judge(BROKEN, State.READY) is Event.PROBE_FAILED


def test_a_child_is_healthy_again_after_passes_in_a_row() -> None:
    one = health()
    assert [one.judge(result, State.UNHEALTHY) for result in (READY, BROKEN, READY, BUSY)] == [
        *(None, None, None),
        Event.PROBE_OK,
    ]


def test_a_child_that_starts_needs_one_pass() -> None:
    one = health()
    assert one.judge(SILENT, State.STARTING) is None
    assert one.judge(READY, State.STARTING) is Event.PROBE_OK


@pytest.mark.parametrize(
    ("reason", "event"), [(UnreadyReason.LOGIN_EXPIRED, Event.LOGIN_EXPIRED), (UnreadyReason.QUOTA, Event.QUOTA)]
)
def test_some_reasons_count_at_once(reason: UnreadyReason, event: Event) -> None:
    assert health().judge(ProbeResult.of(Readiness(reason)), State.READY) is event


@pytest.mark.parametrize("reason", sorted(AWAY))
def test_a_site_that_is_away_is_believed_at_once(reason: UnreadyReason) -> None:
    """The child has asked its site, or its proxy, often enough before it says so."""
    away = ProbeResult.of(Readiness(reason))
    assert health().judge(away, State.STARTING) is None
    assert health().judge(away, State.UNHEALTHY) is None
    assert health().judge(away, State.READY) is Event.PROBE_FAILED


@pytest.mark.parametrize("meanwhile", [BUSY, SILENT, ProbeResult(Reason.PORT_TAKEN)])
def test_after_a_cancel_that_failed_only_a_free_page_counts(meanwhile: ProbeResult) -> None:
    """A probe without an answer has not seen the page free: the old conversation may go on there."""
    one = health()
    one.cancel_failed()
    for result in (meanwhile, BUSY, BUSY, BUSY):
        assert one.judge(result, State.UNHEALTHY) is None
    assert one.judge(READY, State.UNHEALTHY) is Event.PROBE_OK


def test_the_time_of_being_ready_adds_up_over_breaks() -> None:
    clock = Clock()
    one = Health(POLICY, clock)
    assert one.ready_s() == 0
    assert one.became_ready()
    clock.now = 10.0
    assert one.ready_s() == 10
    one.left_ready()
    clock.now = 50.0
    assert one.ready_s() == 10
    assert not one.became_ready()
    clock.now = 55.0
    assert one.ready_s() == 15


# The answer of /ready


@pytest.mark.parametrize("reason", UnreadyReason)
def test_every_reason_of_a_child_is_one_of_ours(reason: UnreadyReason) -> None:
    body = Readiness(reason, detail="why", instance_id="this").to_json()
    result = read_ready(503, body, "this")
    assert (result.reason, result.detail) == (Reason(reason.value), "why")


@pytest.mark.parametrize("body", [None, [], {}, {"instance_id": "another"}])
def test_an_answer_of_anybody_else_is_a_taken_port(body: object) -> None:
    result = read_ready(200, body, "this")
    assert (result.reason, result.readiness) == (Reason.PORT_TAKEN, None)


def test_a_reason_that_is_not_known_is_a_failed_probe() -> None:
    body = {"status": "unready", "reason": "bored", "instance_id": "this"}
    result = read_ready(503, body, "this")
    assert (result.reason, result.readiness) == (Reason.PROBE_FAILED, None)


def test_a_ready_child_tells_what_it_serves() -> None:
    told = Readiness(None, instance_id="this", busy=True, models=("m",), login_expires_at=4e9, capture="network")
    result = read_ready(200, json.loads(json.dumps(told.to_json())), "this")
    assert (result.reason, result.readiness) == (None, told)

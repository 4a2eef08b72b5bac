"""The body of a child's `/ready`, between the two programs, and from a process that is no child."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.child_api import Readiness, SessionReport, UnreadyReason

FULL = Readiness(
    None,
    detail="said",
    instance_id="a1b2",
    generation=3,
    busy=True,
    models=("small", "large"),
    site="demo",
    engine="chromium",
    capture="network",
    login_expires_at=4e9,
    rest_s=0.5,
    session=SessionReport(saves=3, failures=1, saved_at=1.75e9, trouble="cannot be written"),
    login_kept=True,
    refreshes=3,
    refresh_failures=2,
    warning="said",
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=3,
)


def received(readiness: Readiness) -> Readiness | None:
    return Readiness.from_json(readiness.status_code, json.loads(json.dumps(readiness.to_json())))


def test_what_a_child_says_arrives() -> None:
    assert FULL.to_json()["status"] == "ready"
    assert received(FULL) == FULL


@pytest.mark.parametrize("reason", UnreadyReason)
def test_every_reason_arrives(reason: UnreadyReason) -> None:
    unready = Readiness(reason, rest_s=60)
    assert (unready.status_code, unready.to_json()["status"]) == (503, "unready")
    assert received(unready) == unready


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {}),
        (503, {"status": "ready"}),
        (200, {"status": "unready", "reason": "tired"}),
        (503, {"status": "unready", "reason": ["quota"]}),
    ],
)
def test_what_no_child_says_is_none_of_ours(status: int, body: dict[str, Any]) -> None:
    assert Readiness.from_json(status, body) is None


@pytest.mark.parametrize("number", [10**400, float("nan"), float("inf"), True, "4e9"])
def test_a_number_that_is_none_counts_as_absent(number: Any) -> None:
    found = Readiness.from_json(200, {"status": "ready", "login_expires_at": number, "rest_s": number})
    assert found == Readiness(None)


def test_what_utf_8_cannot_express_is_replaced() -> None:
    """It comes in JSON escapes, and goes into logs, `/ready` and `/v1/models`."""
    found = Readiness.from_json(200, {"status": "ready", "detail": "a\ud800", "models": ["b\udfff", ""]})
    assert found == Readiness(None, detail="a?", models=("b?",))


def test_more_models_than_a_site_has_are_left_out() -> None:
    found = Readiness.from_json(200, {"status": "ready", "models": [str(number) for number in range(100_000)]})
    assert found is not None
    assert len(found.models) == 1000


def test_a_ready_body_with_another_status_is_not_ready() -> None:
    assert Readiness.from_json(503, {"status": "ready", "reason": "quota"}) == Readiness(UnreadyReason.QUOTA)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(st.sampled_from([200, 503]), st.fixed_dictionaries(dict.fromkeys(FULL.to_json(), JSON)))
def test_fields_of_another_type_count_as_absent(status: int, body: dict[str, Any]) -> None:
    found = Readiness.from_json(status, {**body, "status": "ready", "reason": "quota"})
    assert found is not None
    for text in (found.detail, found.instance_id, found.capture, found.warning):
        assert text is None or (isinstance(text, str) and len(text) <= 500)
    assert all(isinstance(model, str) for model in found.models)
    assert isinstance(found.busy, bool)
    assert isinstance(found.login_kept, bool)
    for count in (found.refreshes, found.refresh_failures):
        assert type(count) is int
        assert 0 <= count < 2**53
    for number in (found.login_expires_at, found.rest_s):
        assert number is None or isinstance(number, float)
    json.dumps(found.to_json(), allow_nan=False)

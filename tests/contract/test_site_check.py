"""What a child says of a check: it survives the way to the coordinator, and a stranger's answer does no harm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.site_check import CheckedStep, CheckOutcome, SiteCheck

SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=500)
STEPS = st.builds(CheckedStep, SHORT, SHORT, st.floats(0, 1e6))
CHECKS = st.builds(
    SiteCheck,
    st.sampled_from(list(CheckOutcome)),
    SHORT,
    *[st.none() | SHORT] * 2,
    st.none() | st.integers(1, 10**6),
    *[st.none() | SHORT] * 2,
    st.lists(STEPS, max_size=3).map(tuple),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["outcome", "message", "step", "file", "line", "key", "selector", "steps"])


@given(CHECKS)
def test_a_check_is_the_same_after_its_way(check: SiteCheck) -> None:
    assert SiteCheck.from_json(json.loads(json.dumps(check.to_json()))) == check


@given(st.dictionaries(FIELDS, JSON))
def test_whatever_a_stranger_answers_is_a_check_or_no_value(body: dict[str, Any]) -> None:
    try:
        check = SiteCheck.from_json(body)
    except ValueError:
        assert body.get("outcome") not in list(CheckOutcome)
        return
    json.dumps(check.to_json()).encode()
    assert len(check.place) < 3000


@pytest.mark.parametrize(
    ("check", "place"),
    [
        (SiteCheck(CheckOutcome.CHANGED), "the site file"),
        (SiteCheck(CheckOutcome.CHANGED, file="a.toml"), "a.toml"),
        (SiteCheck(CheckOutcome.CHANGED, file="a.toml", line=3, key="send"), "a.toml, line 3 (send)"),
        (
            SiteCheck(CheckOutcome.CHANGED, file="a.toml", line=3, key="input.selector", selector="#in"),
            "a.toml, line 3 (input.selector): '#in'",
        ),
    ],
)
def test_the_place_is_said_as_far_as_it_is_known(check: SiteCheck, place: str) -> None:
    assert check.place == place

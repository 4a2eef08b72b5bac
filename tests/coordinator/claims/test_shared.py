"""What the cells of one fleet must have alike: who fits whom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.claims.shared import SharedSettings

keys = st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True).map(tuple)
shared = st.builds(
    SharedSettings,
    ttl_s=st.sampled_from([5, 10]),
    session_keys=keys,
    sessions=st.sampled_from(["", "ab12"]),
    format=st.sampled_from([1, 2]),
)


@given(shared, shared)
def test_whoever_differs_from_another_is_one_that_the_other_differs_from(a: SharedSettings, b: SharedSettings) -> None:
    here, there = a.difference(b), b.difference(a)
    assert (here is None) == (there is None)
    if here and there:
        assert here == (there[0], there[2], there[1])


@given(shared, keys)
def test_keys_fit_where_each_can_read_what_the_other_writes(own: SharedSettings, other: tuple[str, ...]) -> None:
    theirs = SharedSettings(own.ttl_s, other, own.sessions, own.format)
    fits = other[0] in own.session_keys and own.session_keys[0] in other
    assert (own.difference(theirs) is None) == fits

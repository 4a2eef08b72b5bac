"""Which logins a cell claims: evenly, within its room, and the same by every cell's reckoning."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.claims.share import Waits, fair_shares, preferred

rooms = st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 40), min_size=1, max_size=8)


@given(rooms, st.integers(0, 200))
def test_all_is_shared_out_as_far_as_there_is_room(rooms: dict[str, int], logins: int) -> None:
    shares = fair_shares(rooms, logins)
    assert sum(shares.values()) == min(logins, sum(rooms.values()))
    assert all(shares[cell] <= rooms[cell] for cell in rooms)


@given(rooms, st.integers(0, 200))
def test_no_cell_with_room_left_has_two_less_than_another(rooms: dict[str, int], logins: int) -> None:
    shares = fair_shares(rooms, logins)
    for cell, room in rooms.items():
        assert shares[cell] == room or shares[cell] >= max(shares.values()) - 1


@given(rooms, st.integers(0, 200))
def test_the_order_in_which_cells_are_named_changes_nothing(rooms: dict[str, int], logins: int) -> None:
    assert fair_shares(rooms, logins) == fair_shares(dict(reversed(rooms.items())), logins)


@given(st.text(), st.sets(st.text()))
def test_preference_is_an_order_of_all(cell: str, logins: set[str]) -> None:
    assert set(preferred(cell, logins)) == logins
    assert preferred(cell, sorted(logins)) == preferred(cell, logins)


def test_cells_prefer_different_logins() -> None:
    logins = [f"login-{number}" for number in range(100)]
    firsts = [set(preferred(cell, logins)[:10]) for cell in "abcde"]
    assert len(set.union(*firsts)) > 35


def test_waits_begin_anew_after_a_claim() -> None:
    waits = Waits()
    waits.see({"a", "b"}, 0.0)
    waits.see({"a"}, 5.0)
    waits.see({"a", "b"}, 6.0)
    assert waits.longer_than(6.0, 6.0) == {"a"}
    assert waits.longer_than(6.0, 12.0) == {"a", "b"}

"""Targets and notes of the benchmark of looks."""

from __future__ import annotations

from benchmarks.looks import IDLE, LARGEST_COST, LOOK, Idle, Runs, result

LOOKS = Runs([1.0, 1.2, 9.0], [2.9, 3.0, 3.1])
OURS = Idle(child=[1.0, 1.0, 1.5], driver=[1.0, 1.0, 1.0], browser=[2.5, 2.5, 2.0])
BY_DRIVER = Idle(child=[2.0], driver=[2.0], browser=[4.0])


def test_the_parts_of_an_idle_login_are_added_up_by_round() -> None:
    assert OURS.total == [4.5, 4.5, 4.5]
    found = result("chromium", LOOKS, OURS, BY_DRIVER)
    assert (found.missed, found.notes) == ([], [])
    assert [(row.ours, row.peers) for row in found.rows] == [(1.2, 3.0), (4.5, 8.0), (1.0, 2.0), (1.0, 2.0), (2.5, 4.0)]


def test_a_missed_target_is_told_with_its_largest_cost() -> None:
    slow = Idle(child=[2.0], driver=[1.0], browser=[2.5])
    found = result("chromium", Runs([2.0], [3.0]), slow, BY_DRIVER)
    assert found.missed == [IDLE, LOOK]
    assert found.notes == [LARGEST_COST]
    assert result("firefox", LOOKS, slow, BY_DRIVER).missed == []

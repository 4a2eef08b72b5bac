"""Rows of the benchmark of spare browsers."""

from __future__ import annotations

from benchmarks.spares import BENCHMARKS, result


def test_starts_are_compared_by_their_medians_in_milliseconds() -> None:
    spare, own = [(0.5, 0.4), (0.6, 0.5), (9.0, 0.6)], [(2.0, 1.8), (2.5, 2.0), (3.0, 2.2)]
    found = result("chromium", spare, own, [0.3, 0.4, 0.5], 270.0)
    assert [(row.ours, row.peers) for row in found.rows] == [(600.0, 2500.0), (500.0, 2000.0), (600.0, 400.0)]
    assert [figure.value for figure in found.figures] == [600.0, 270.0]
    assert not found.missed
    assert not found.notes
    assert set(BENCHMARKS) == {"start-spare-chromium", "start-spare-firefox"}


def test_a_start_that_takes_too_long_is_explained() -> None:
    found = result("firefox", [(0.7, 0.4)], [(2.0, 1.8)], [0.6], 270.0)
    assert found.missed == ["from the start's order to READY"]
    assert len(found.notes) == 1

"""Rows of the benchmark of spare browsers."""

from __future__ import annotations

from benchmarks.spares import BENCHMARKS, result


def test_starts_are_compared_by_their_medians_in_milliseconds() -> None:
    found = result("chromium", [(0.5, 0.4), (0.6, 0.5), (9.0, 0.6)], [(2.0, 1.8), (2.5, 2.0), (3.0, 2.2)], 270.0)
    assert [(row.ours, row.peers) for row in found.rows] == [(600.0, 2500.0), (500.0, 2000.0)]
    assert [figure.value for figure in found.figures] == [270.0]
    assert set(BENCHMARKS) == {"start-spare-chromium", "start-spare-firefox"}

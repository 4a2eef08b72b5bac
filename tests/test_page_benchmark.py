"""What the benchmark of pages says of its figures."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.pages.findings import LARGEST_COSTS, result
from benchmarks.pages.measuring import Found, Submitted
from benchmarks.pages.memory import Parts

GOOD = Found(
    start=[1400.0],
    bare_start=[1000.0],
    late=[[1.0] * 198 + [9.0, 9.0]],
    first=[5.0],
    short=Submitted([20.0], [50.0], [21.0]),
    long=Submitted([240.0], [100.0], [95.0]),
    memory=[Parts(60.0, 100.0, 320.0)],
    memory_after=[Parts(60.0, 100.0, 320.0)],
    bare_memory=[Parts(30.0, 100.0, 320.0)],
)


def test_what_meets_its_aims_is_no_cost_to_name() -> None:
    found = result("chromium", "demo", GOOD)
    assert found.missed == []
    assert found.notes == []


def test_each_missed_aim_is_told_with_its_largest_cost() -> None:
    bad = replace(
        GOOD,
        start=[1600.0],
        late=[[1.0] * 190 + [11.0] * 10],
        first=[11.0],
        long=Submitted([260.0], [100.0], [100.0]),
        memory=[Parts(70.0, 100.0, 320.0)],
    )
    found = result("chromium", "demo", bad)
    assert len(found.missed) == 6
    assert [note.partition(":")[0] for note in found.notes] == list(LARGEST_COSTS)


def test_another_engine_has_no_aims() -> None:
    assert result("firefox", "demo", replace(GOOD, first=[1000.0])).missed == []

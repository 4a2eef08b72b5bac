"""Targets and notes of the benchmark of pages."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.pages.benchmark import LARGEST_COSTS, result
from benchmarks.pages.measure import Measurements, SubmitTimes
from benchmarks.process_usage import ChildMemory

GOOD = Measurements(
    start=[1400.0],
    bare_start=[1000.0],
    late=[[1.0] * 198 + [9.0, 9.0]],
    first=[5.0],
    short=SubmitTimes([20.0], [50.0], [21.0]),
    long=SubmitTimes([240.0], [100.0], [95.0]),
    memory=[ChildMemory(60.0, 100.0, 320.0)],
    memory_after=[ChildMemory(60.0, 100.0, 320.0)],
    bare_memory=[ChildMemory(30.0, 100.0, 320.0)],
)


def test_met_targets_need_no_note() -> None:
    found = result("chromium", "demo", GOOD)
    assert found.missed == []
    assert found.notes == []


def test_each_missed_target_is_noted_with_its_largest_cost() -> None:
    bad = replace(
        GOOD,
        start=[1600.0],
        late=[[1.0] * 190 + [11.0] * 10],
        first=[11.0],
        long=SubmitTimes([260.0], [100.0], [100.0]),
        memory=[ChildMemory(70.0, 100.0, 320.0)],
    )
    found = result("chromium", "demo", bad)
    assert len(found.missed) == 6
    assert [note.partition(":")[0] for note in found.notes] == list(LARGEST_COSTS)


def test_other_engines_have_no_targets() -> None:
    assert result("firefox", "demo", replace(GOOD, first=[1000.0])).missed == []

"""Targets and notes of the benchmark of pages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.pages.benchmark import LARGEST_COSTS, result
from benchmarks.pages.measure import Measurements, SubmitTimes, after_sending
from benchmarks.pages.timestamped_app import AnswerTimes
from benchmarks.process_usage import ChildMemory

GOOD = Measurements(
    start=[1150.0],
    bare_start=[1000.0],
    late=[[3.0] * 198 + [11.0, 11.0]],
    received=[[2.0] * 200],
    shown=[[2.5] * 200],
    short=SubmitTimes([20.0], [50.0], [21.0]),
    long=SubmitTimes([240.0], [100.0], [95.0]),
    memory=[ChildMemory(40.0, 100.0, 320.0)],
    memory_after=[ChildMemory(40.0, 100.0, 320.0)],
    bare_memory=[ChildMemory(30.0, 100.0, 320.0)],
)


def test_met_targets_need_no_note() -> None:
    found = result("chromium", "demo", GOOD)
    assert found.missed == []
    assert found.notes == []


def test_each_missed_target_is_noted_with_its_largest_cost() -> None:
    bad = replace(
        GOOD,
        start=[1250.0],
        late=[[13.0] + [4.5] * 189 + [13.0] * 10],
        long=SubmitTimes([260.0], [100.0], [100.0]),
        memory=[ChildMemory(50.0, 100.0, 320.0)],
    )
    found = result("chromium", "demo", bad)
    assert len(found.missed) == 7
    assert [note.partition(":")[0] for note in found.notes] == list(LARGEST_COSTS)


def test_other_engines_have_targets_for_tokens_alone() -> None:
    slow = replace(GOOD, late=[[1000.0] + [4.5] * 199], start=[9000.0])
    assert result("firefox", "demo", slow).missed == []
    missed = result("firefox", "demo", replace(GOOD, late=[[5.5] * 200])).missed
    assert missed == ["app to client, a token, p50 of an answer"]


def test_times_of_an_earlier_answer_are_refused() -> None:
    sent = AnswerTimes(prompt_at=9.0, token_at={0: 10.0, 1: 10.02})
    assert after_sending(sent, {1: 10.021, 0: 10.002}) == pytest.approx([2.0, 1.0])
    with pytest.raises(ValueError, match="not those of this answer"):
        after_sending(sent, {0: 1.0, 1: 1.02})
    with pytest.raises(ValueError, match="did not get the tokens"):
        after_sending(sent, {0: 10.002})

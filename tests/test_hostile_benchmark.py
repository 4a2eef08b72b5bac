"""`python -m benchmarks hostile` opens what it says, and tells a miss from a hit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks import hostile
from benchmarks.stub_fleet import stub_fleet
from coordinator.settings import Settings
from tests.support.ports import free_range


async def test_every_kind_is_opened_and_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "REST_S", 0.2)
    monkeypatch.setattr(hostile, "HOSTILE_S", 2.0)
    first = free_range(2 * hostile.CHILDREN + 1)
    fleet = stub_fleet(tmp_path / "fleet", port=first, child_port=first + 1, children=hostile.CHILDREN)
    with fleet as running:
        seen = await asyncio.wait_for(hostile.measure(first, running.pid), 60)
    assert seen.peak_mb > seen.rest_mb > 10
    assert seen.live_s
    assert seen.live_at_rest_s


def test_memory_and_the_slowest_answer_have_targets() -> None:
    good = hostile.Seen(rest_mb=60, peak_mb=200, live_at_rest_s=[0.001], live_s=[0.01, 0.4])
    assert hostile.result(good).missed == []
    bad = hostile.Seen(rest_mb=60, peak_mb=211, live_at_rest_s=[0.001], live_s=[0.01, 0.01, 0.6])
    assert hostile.result(bad).missed == ["peak less rest", "/live, slowest"]


def test_the_bodies_that_are_held_leave_room_within_the_target() -> None:
    assert Settings.model_fields["max_buffered_bytes"].default < 0.75 * hostile.MORE_MB * 1e6

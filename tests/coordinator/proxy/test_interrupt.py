"""Whoever does not move in time is interrupted, for the right cause."""

from __future__ import annotations

import pytest

from coordinator.proxy.interrupt import Cause, StallWatch
from tests.support.manual_loop import ManualLoop
from tests.support.waiting import eventually


@pytest.mark.parametrize(("blocked", "cause"), [(False, Cause.NO_HEAD), (True, Cause.CLIENT_STALLED)])
async def test_a_stall_is_put_down_to_whoever_is_waited_for(blocked: bool, cause: Cause) -> None:
    causes: list[Cause] = []
    watch = StallWatch(causes.append, lambda: blocked, client_s=0.02)
    watch.expect(0.02, Cause.NO_HEAD)
    await eventually(lambda: causes)
    assert causes == [cause]


def test_whoever_moves_is_not_interrupted() -> None:
    loop, causes = ManualLoop(), list[Cause]()
    watch = loop.call(StallWatch, causes.append, lambda: False, client_s=9)
    loop.call(watch.expect, 1.0, Cause.SILENT)
    for seconds in (0.9, 0.9, 0.9, 0.9):
        loop.advance(seconds)
        assert causes == []
        watch.moved_at = loop.time()
    loop.advance(0.9)
    assert causes == []
    loop.advance(0.2)
    assert causes == [Cause.SILENT]
    loop.close()


def test_a_watch_that_was_left_interrupts_nothing() -> None:
    loop, causes = ManualLoop(), list[Cause]()
    watch = loop.call(StallWatch, causes.append, lambda: False, client_s=9)
    with watch:
        loop.call(watch.expect, 1.0, Cause.SILENT)
    loop.advance(2.0)
    assert causes == []
    loop.close()

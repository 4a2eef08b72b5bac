"""A child that does not move in time is interrupted; what its client holds up does not count."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.proxy.interrupt import Cause, StallWatch
from tests.support.manual_loop import ManualLoop

LIMIT_S = 10.0
STEPS = st.lists(
    st.one_of(st.sampled_from(["chunk", "client stops", "client reads"]), st.floats(0.1, 1.5 * LIMIT_S)), max_size=40
)


@given(STEPS)
def test_silence_is_counted_from_the_moment_that_the_child_is_waited_for(steps: list[str | float]) -> None:
    loop, causes = ManualLoop(), list[Cause]()
    held_up, waits_since = False, 0.0
    watch = loop.call(StallWatch, causes.append, lambda: held_up)
    loop.call(watch.expect, LIMIT_S, Cause.NO_HEAD)
    for step in steps:
        match step:
            case "chunk" if not held_up:
                watch.moved_at = waits_since = loop.time()
            case "client stops":
                held_up = True
            case "client reads" if held_up:
                held_up, watch.moved_at = False, loop.time()
                waits_since = loop.time()
            case float():
                loop.advance(step)
        due = not held_up and loop.time() - waits_since >= LIMIT_S
        assert causes == ([Cause.NO_HEAD] if due else [])
        if due:
            break
    loop.close()


def test_whoever_moves_is_not_interrupted() -> None:
    loop, causes = ManualLoop(), list[Cause]()
    watch = loop.call(StallWatch, causes.append, lambda: False)
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
    watch = loop.call(StallWatch, causes.append, lambda: False)
    with watch:
        loop.call(watch.expect, 1.0, Cause.SILENT)
    loop.advance(2.0)
    assert causes == []
    loop.close()

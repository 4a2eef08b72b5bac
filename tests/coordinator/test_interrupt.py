"""Ending a region from outside: once, for the first cause, without touching what follows."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from coordinator.proxy.interrupt import Cause, Interruptible, StallWatch
from tests.support.manual_loop import ManualLoop
from tests.support.waiting import eventually


async def test_an_interrupt_ends_the_region_and_nothing_after_it() -> None:
    region, after = Interruptible(), asyncio.Event()

    async def work() -> str:
        with region:
            await asyncio.Event().wait()
        await after.wait()
        return "the end"

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    region.interrupt(Cause.CLIENT_LEFT)
    region.interrupt(Cause.SHUTDOWN)
    await asyncio.sleep(0)
    region.interrupt(Cause.SILENT)
    after.set()
    assert await task == "the end"
    assert region.cause is Cause.CLIENT_LEFT
    assert task.cancelling() == 0


async def test_a_result_that_comes_with_the_interrupt_is_dropped_and_nothing_leaks() -> None:
    """The future is done and the task about to wake: the interrupt still ends the region, cleanly."""
    region, future = Interruptible(), asyncio.get_running_loop().create_future()
    got: list[object] = []

    async def work() -> None:
        with region:
            got.append(await future)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    future.set_result("late")
    region.interrupt(Cause.CLIENT_LEFT)
    await task
    assert got == []


async def test_outside_the_region_an_interrupt_is_only_noted() -> None:
    region = Interruptible()
    region.interrupt(Cause.SHUTDOWN)
    await asyncio.sleep(0)
    assert region.cause is Cause.SHUTDOWN


async def test_a_cancellation_by_somebody_else_goes_on() -> None:
    region = Interruptible()

    async def work() -> None:
        with region:
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    region.interrupt(Cause.CLIENT_LEFT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_errors_within_the_region_come_out() -> None:
    with pytest.raises(KeyError), Interruptible():
        raise KeyError


async def test_a_region_is_not_ended_twice_by_what_swallows_cancellation() -> None:
    region = Interruptible()

    async def work() -> str:
        with region, contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return "alive"

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    region.interrupt(Cause.SILENT)
    assert await task == "alive"


@pytest.mark.parametrize(("blocked", "cause"), [(False, Cause.NO_HEAD), (True, Cause.CLIENT_STALLED)])
async def test_a_stall_is_laid_at_the_door_of_whoever_is_waited_for(blocked: bool, cause: Cause) -> None:
    region = Interruptible()
    watch = StallWatch(region, lambda: blocked, client_s=0.02)
    watch.expect(0.02, Cause.NO_HEAD)
    await eventually(lambda: region.cause)
    assert region.cause is cause


def test_whoever_moves_is_not_ended() -> None:
    loop, region = ManualLoop(), Interruptible()
    watch = loop.call(StallWatch, region, lambda: False, client_s=9)
    loop.call(watch.expect, 1.0, Cause.SILENT)
    causes = []
    for seconds in (0.9, 0.9, 0.9, 0.9, 0.2):
        loop.advance(seconds)
        causes.append(region.cause)
        if len(causes) < 4:
            watch.moved_at = loop.time()
    assert causes == [None, None, None, None, Cause.SILENT]
    loop.close()


async def test_a_stopped_watch_ends_nothing() -> None:
    region = Interruptible()
    watch = StallWatch(region, lambda: False, client_s=9)
    watch.expect(0.01, Cause.SILENT)
    watch.stop()
    later = StallWatch(second := Interruptible(), lambda: False, client_s=9)
    later.expect(0.02, Cause.SILENT)
    await eventually(lambda: second.cause)
    assert region.cause is None

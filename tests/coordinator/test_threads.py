"""The coordinator's loop never waits for a thread to begin: one that finds no memory for that never would."""

from __future__ import annotations

import threading

import pytest

from coordinator.daemon_thread import in_daemon_thread
from coordinator.main import started_threads


def refuse(_: threading.Thread) -> None:
    raise AssertionError("a thread is started")


def test_the_executor_starts_no_thread_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with started_threads() as threads:
        count = threads._max_workers
        monkeypatch.setattr(threading.Thread, "start", refuse)
        all_run = threading.Barrier(count + 1)
        for _ in range(count):
            threads.submit(all_run.wait)
        all_run.wait(timeout=60)  # BrokenBarrierError unless all of them work at the same time


async def test_fetching_profiles_does_not_wait_for_its_thread_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert await in_daemon_thread(lambda: 7) == 7

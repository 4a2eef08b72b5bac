"""What supervision tells the proxy of a request: is it cancelled, was it submitted, may another child take it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from coordinator.proxy.pool import Backend
from coordinator.supervision.lifecycle import Reason, State
from tests.coordinator.fleet import Fleet, running_fleet
from tests.support.waiting import eventually


def backend_of(fleet: Fleet, name: str = "a") -> Backend:
    backend = fleet.pool.get(name)
    assert backend is not None
    return backend


async def ask(fleet: Fleet, request_id: str) -> str | None:
    """Send one request to the child; return the whole answer, or None if the connection broke."""
    backend = backend_of(fleet)
    body = {"model": "fake", "stream": True, "messages": [{"role": "user", "content": f"prompt {request_id}"}]}
    headers = {"x-request-id": request_id}
    try:
        async with fleet.http.post(f"{backend.url}/v1/chat/completions", json=body, headers=headers) as response:
            return await response.text()
    except aiohttp.ClientError:
        return None


@contextlib.asynccontextmanager
async def asking(fleet: Fleet, request_id: str) -> AsyncIterator[asyncio.Task[str | None]]:
    """Send a request, and go on as soon as the child works on it."""
    task = asyncio.create_task(ask(fleet, request_id))
    await eventually(lambda: any(note["id"] == request_id for note in fleet.notes("a", "ledger")))
    yield task
    task.cancel()


async def test_a_request_is_answered(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        answer = str(await ask(fleet, "one"))
        entry = fleet.notes("a", "ledger")[0]
        assert entry["digest"] in answer
        assert entry["token"] in answer
        assert answer.endswith("data: [DONE]\n\n")


async def test_a_cancel_is_confirmed_and_frees_the_page(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        await fleet.behave("a", stall_after=2)
        async with asking(fleet, "one"):
            assert await fleet.supervisor.cancel(backend_of(fleet), "one")
            assert fleet.notes("a", "ledger")[-1]["stopped"]
            await fleet.behave("a", stall_after=None)
            assert "[DONE]" in str(await ask(fleet, "two"))
        assert fleet.is_in("a", State.READY)


async def test_a_cancel_of_what_has_ended_is_confirmed_too(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        assert await fleet.supervisor.cancel(backend_of(fleet), "never heard of / it")


async def test_after_an_unconfirmed_cancel_the_child_is_out_until_its_page_is_free(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        await fleet.behave("a", stall_after=2, cancel_status=503)
        async with asking(fleet, "one") as task:
            assert not await fleet.supervisor.cancel(backend_of(fleet), "one")
            assert fleet.status("a").reason is Reason.CANCEL_FAILED
            assert fleet.pool.try_acquire("fake") is None
            health = fleet.supervisor.child("a")._health
            await eventually(lambda: health._passes > 2)  # it says that it is ready, but busy: not enough
            assert fleet.is_in("a", State.UNHEALTHY)
            task.cancel()
            await fleet.until("a", State.READY)


async def test_a_cancel_at_a_dead_child_is_confirmed_without_an_answer(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, backoff_base_s=5.0, backoff_max_s=5.0) as fleet:
        backend = backend_of(fleet)
        await fleet.behave("a", signal=signal.SIGKILL)
        await fleet.until("a", State.BACKOFF)
        assert await fleet.supervisor.cancel(backend, "one")


@pytest.mark.parametrize(("drop", "submitted"), [("before", False), ("after", True)])
async def test_a_live_child_that_drops_a_request(tmp_path: Path, drop: str, *, submitted: bool) -> None:
    async with running_fleet(tmp_path, exit_notice_s=0.1) as fleet:
        await fleet.behave("a", drop=drop)
        assert await ask(fleet, "one") is None
        assert await fleet.supervisor.may_retry(backend_of(fleet), "one") is not submitted
        assert fleet.supervisor.was_submitted(backend_of(fleet), "one") is submitted


async def test_no_retry_while_a_live_child_does_not_confirm(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, exit_notice_s=0.1) as fleet:
        await fleet.behave("a", drop="before", cancel_status=503)
        assert await ask(fleet, "one") is None
        assert not await fleet.supervisor.may_retry(backend_of(fleet), "one")


async def test_a_child_that_died_still_tells_what_it_had_submitted(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        backend = backend_of(fleet)
        await fleet.behave("a", die_after=0)
        assert await ask(fleet, "one") is None
        may_retry = [await fleet.supervisor.may_retry(backend, request_id) for request_id in ("one", "two")]
        assert may_retry == [False, True]
        await fleet.until_start("a", 2)
        assert fleet.supervisor.was_submitted(backend, "one") is True
        assert fleet.supervisor.was_submitted(backend, "two") is False
        assert fleet.supervisor.was_submitted(backend_of(fleet), "one") is False


async def test_a_childs_death_may_be_noticed_after_its_connection_broke(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        backend = backend_of(fleet)
        asking_first = asyncio.create_task(fleet.supervisor.may_retry(backend, "one"))
        pid = fleet.status("a").pid
        assert pid is not None
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        assert await asking_first


async def test_nothing_is_known_of_a_child_that_was_forgotten(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        backend = backend_of(fleet)
        await fleet.supervisor.reconcile([])
        await eventually(lambda: not fleet.supervisor.snapshot())
        assert fleet.supervisor.was_submitted(backend, "one") is None
        assert not await fleet.supervisor.may_retry(backend, "one")


async def test_what_cannot_be_read_is_not_retried(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        backend = backend_of(fleet)
        submitted = fleet.run_root.folder("a").path / "submitted"
        submitted.unlink()
        submitted.mkdir()
        await fleet.behave("a", signal=signal.SIGKILL)
        assert not await fleet.supervisor.may_retry(backend, "one")

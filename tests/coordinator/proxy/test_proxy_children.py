"""The proxy over supervised processes, with the real client and its default retries: submitted at most once."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from coordinator.proxy.exchange import Limits
from coordinator.supervision.lifecycle import State
from tests.coordinator.fake_answer import digest
from tests.coordinator.fleet import Fleet, running_fleet
from tests.coordinator.proxy.proxied import Caller, Served, chat, request, served
from tests.support.size import size
from tests.support.waiting import eventually

LIMITS = Limits(queue_s=30, first_token_s=30, idle_s=30)
LEAVERS = size(60, 200)


@contextlib.asynccontextmanager
async def api_over(tmp_path: Path, names: str) -> AsyncIterator[tuple[Fleet, Served]]:
    async with running_fleet(tmp_path, names) as fleet:
        async with served(fleet.pool, fleet.supervisor, tmp_path, limits=LIMITS) as api:
            yield fleet, api
        assert api.quiet


def ask_for(prompt: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": prompt}]


async def answer(api: Served, prompt: str, *, stream: bool) -> str:
    client = api.client()
    if not stream:
        whole = await client.chat.completions.create(model="fake", messages=ask_for(prompt))
        return whole.choices[0].message.content or ""
    chunks = await client.chat.completions.create(model="fake", messages=ask_for(prompt), stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


def submissions(fleet: Fleet, names: str) -> Counter[str]:
    """Return how often each prompt was submitted, by its digest."""
    entries = [entry for name in names for entry in fleet.notes(name, "ledger")]
    return Counter(entry["digest"] for entry in entries if "digest" in entry)


AFTER_SUBMISSION: list[dict[str, object]] = [{"drop": "after"}, {"die_after": 0}, {"site_error": "page_broken"}]
IN_MID_STREAM: list[dict[str, object]] = [{"die_after": 2}, {"break_after": 2}]


@pytest.mark.parametrize(
    ("fault", "stream"),
    [(fault, stream) for fault in AFTER_SUBMISSION for stream in (True, False)]
    + [(fault, True) for fault in IN_MID_STREAM],
    ids=str,
)
async def test_what_may_have_been_submitted_is_never_sent_again(
    tmp_path: Path, fault: dict[str, object], stream: bool
) -> None:
    async with api_over(tmp_path, "ab") as (fleet, api):
        for name in "ab":
            await fleet.behave(name, **fault)
        with pytest.raises(openai.APIError) as raised:
            await answer(api, "once only", stream=stream)
        assert not isinstance(raised.value, openai.APIConnectionError)
        assert submissions(fleet, "ab") == {digest("once only"): 1}
        await eventually(lambda: api.quiet)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", [{"drop": "before"}, {"error_status": 503}, {"error_status": 502}], ids=str)
async def test_what_was_not_submitted_goes_to_another_child(
    tmp_path: Path, fault: dict[str, object], stream: bool
) -> None:
    async with api_over(tmp_path, "ab") as (fleet, api):
        await fleet.behave("a", **fault)
        for number in range(4):
            text = await answer(api, f"prompt {number}", stream=stream)
            assert text.startswith(digest(f"prompt {number}"))
        assert set(submissions(fleet, "b").values()) == {1}
        assert len(submissions(fleet, "b")) == 4
        assert sum(done.stats.retries for done in await api.ended()) >= 1


async def test_a_request_whose_child_is_killed_before_the_submission_is_answered_by_another(tmp_path: Path) -> None:
    """The killed child has the connection, but never wrote the id: the other one answers."""
    async with api_over(tmp_path, "ab") as (fleet, api):
        await fleet.behave("a", first_token_s=30)
        await fleet.behave("b", first_token_s=30)
        held = [asyncio.create_task(answer(api, f"held {number}", stream=True)) for number in range(2)]
        await eventually(lambda: len(submissions(fleet, "ab")) == 2)
        waiting = asyncio.create_task(answer(api, "waits", stream=True))
        await eventually(lambda: api.pool.queue_length == 1)
        await fleet.behave("a", signal=9)
        ended, _ = await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
        assert [type(task.exception()) for task in ended] == [openai.InternalServerError]
        assert (await asyncio.wait_for(waiting, 30)).startswith(digest("waits"))
        assert max(submissions(fleet, "ab").values()) == 1
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_many_clients_that_leave_at_any_moment_lose_no_lease_and_no_child(tmp_path: Path) -> None:
    async with api_over(tmp_path, "abc") as (fleet, api):
        for name in "abc":
            await fleet.behave(name, tokens=1000, token_s=0.005, first_token_s=0.01)
        crowd = asyncio.Semaphore(20)
        dice = random.Random(7)
        moments = [(dice.choice(["at once", "head", "chunk"]), dice.random() < 0.5) for _ in range(LEAVERS)]
        async with asyncio.TaskGroup() as group:
            for number, (moment, reset) in enumerate(moments):
                group.create_task(leave(api, crowd, f"leaver {number}", moment, reset=reset))
        await eventually(lambda: api.quiet, what=lambda: (api.pool.leases_held, api.proxy.in_flight))
        assert max(submissions(fleet, "abc").values()) == 1
        for name in "abc":
            await fleet.behave(name, tokens=3, token_s=0, first_token_s=0)
            await fleet.until(name, State.READY)
            assert fleet.status(name).restarts == 0
        assert (await answer(api, "and now", stream=True)).startswith(digest("and now"))
        stopped = [entry for name in "abc" for entry in fleet.notes(name, "ledger") if entry.get("stopped")]
        submitted = sum(submissions(fleet, "abc").values())
        assert len(stopped) == submitted - 1


async def leave(api: Served, crowd: asyncio.Semaphore, prompt: str, moment: str, *, reset: bool) -> None:
    async with crowd:
        caller = await Caller.connect(api.port)
        caller.writer.write(request(chat(prompt, stream=True)))
        await caller.writer.drain()
        if moment != "at once":
            status, _ = await caller.head()
            assert status == 200
        if moment == "chunk":
            await caller.reader.readuntil(b"\n\n")
        (caller.reset if reset else caller.close)()


async def test_a_page_that_cannot_be_freed_is_not_used_again_until_it_is(tmp_path: Path) -> None:
    async with api_over(tmp_path, "a") as (fleet, api):
        await fleet.behave("a", tokens=1000, token_s=0.01, cancel_status=503, unready="page_broken")
        caller = await Caller.connect(api.port)
        caller.writer.write(request(chat("left behind", stream=True)))
        await caller.head()
        caller.reset()
        await fleet.until("a", State.UNHEALTHY)
        await eventually(lambda: api.quiet)
        with pytest.raises(openai.InternalServerError) as refused:
            await api.client(max_retries=0).chat.completions.create(model="fake", messages=ask_for("x"))
        assert refused.value.status_code == 503


async def test_mixed_requests_are_answered_right_and_submitted_once(tmp_path: Path) -> None:
    async with api_over(tmp_path, "ab") as (fleet, api):
        prompts = [f"mixed {number}" for number in range(60)]
        answers = await asyncio.gather(*(answer(api, prompt, stream=len(prompt) % 2 == 0) for prompt in prompts))
        assert [text.split()[0] for text in answers] == [digest(prompt) for prompt in prompts]
        assert submissions(fleet, "ab") == Counter({digest(prompt): 1 for prompt in prompts})
        ledger = [entry["token"] for name in "ab" for entry in fleet.notes(name, "ledger")]
        assert sorted(text.split()[1] for text in answers) == sorted(ledger)

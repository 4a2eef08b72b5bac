"""Prompts and answers on the demo site in real Chromium, compared with the site's own ledger."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from browser.errors import ModelNotFound, PromptRefused, PromptRejected, SiteFailed
from browser.page.chat_page import ChatPage
from browser.page.conversation import EnoughRead
from demo.site import DemoSite
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import lasting_page
from tests.support.size import size
from tests.support.waiting import eventually

demo, folder, page = lasting_page()


async def test_an_answer_comes_piece_by_piece(page: ChatPage, demo: DemoSite) -> None:
    pieces = [piece async for piece in page.ask("a", "hello [[tokens=50]]", "demo-small")]
    check_answer("".join(pieces), "hello [[tokens=50]]", last(demo))
    assert pieces == last(demo).pieces
    assert page.status.capture == "network"


@pytest.mark.parametrize("shape", ["unicode split", "code", "tokens=500 delay_ms=0", "echo"])
async def test_shapes_of_answers(page: ChatPage, demo: DemoSite, shape: str) -> None:
    prompt = f"Grüße, 東京 [[{shape}]]"
    check_answer(await ask(page, prompt), prompt, last(demo))


async def test_an_empty_answer(page: ChatPage, demo: DemoSite) -> None:
    assert await ask(page, "[[empty]]") == ""
    assert last(demo).outcome == "done"


async def test_a_long_prompt_arrives_exactly(page: ChatPage, demo: DemoSite) -> None:
    prompt = "\n".join(f'{number}: "Grüße" & <b>\t{"x" * 30} ' for number in range(2000))
    assert len(prompt) > 100_000 - 20_000
    check_answer(await ask(page, prompt), prompt, last(demo))


async def test_newlines_of_any_kind_become_one_kind(page: ChatPage, demo: DemoSite) -> None:
    await ask(page, "a\r\nb\rc\nd")
    assert last(demo).prompt == "a\nb\nc\nd"


async def test_the_model_is_chosen_for_each_prompt(page: ChatPage, demo: DemoSite) -> None:
    for model in ("demo-large", "demo-small", "demo-small"):
        await ask(page, "hello", model)
        assert last(demo).model == model


async def test_each_request_starts_a_fresh_conversation(page: ChatPage, demo: DemoSite) -> None:
    await ask(page, "my secret is 42")
    answer = await ask(page, "what did I say before?")
    assert "Earlier prompts: 0" in answer
    first, second = demo.ledger.entries()[-2:]
    assert first.conversation != second.conversation


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_closing_the_generator_stops_the_answer(page: ChatPage, demo: DemoSite, count: int) -> None:
    async with aclosing(page.ask("a", "[[tokens=2000]]", "demo-small")) as pieces:
        for _ in range(count):
            await anext(pieces)
    if count:
        assert last(demo).outcome == "stopped"
    check_answer(await ask(page, "next"), "next", last(demo))


@pytest.mark.parametrize("count", [1, 5])
async def test_a_reader_who_has_enough_does_not_wait_for_the_page(page: ChatPage, demo: DemoSite, count: int) -> None:
    pieces = page.ask("a", "[[tokens=2000]]", "demo-small")
    for _ in range(count):
        await anext(pieces)
    with pytest.raises(StopAsyncIteration):
        await pieces.athrow(EnoughRead())
    # The page is still being brought to an empty conversation, and the next prompt waits for that.
    check_answer(await ask(page, "next"), "next", last(demo))
    assert [entry.outcome for entry in demo.ledger.entries()[-2:]] == ["stopped", "done"]


async def test_stopping_many_answers_in_a_row(page: ChatPage, demo: DemoSite) -> None:
    count = size(8, 20)
    for number in range(count):
        async with aclosing(page.ask(f"s{number}", f"{number} [[tokens=2000]]", "demo-small")) as pieces:
            await anext(pieces)
        assert not page.busy
    entries = demo.ledger.entries()[-count:]
    assert [entry.outcome for entry in entries] == ["stopped"] * count
    assert [entry.prompt.split()[0] for entry in entries] == [str(number) for number in range(count)]
    check_answer(await ask(page, "next"), "next", last(demo))


async def test_prompts_are_answered_one_at_a_time_in_the_order_they_came(page: ChatPage, demo: DemoSite) -> None:
    asking = [asyncio.create_task(ask(page, f"{number} [[tokens=20]]")) for number in range(3)]
    await eventually(lambda: page.busy)
    for number, answer in enumerate(await asyncio.gather(*asking)):
        check_answer(answer, f"{number} [[tokens=20]]", demo.ledger.entries()[number - 3])


async def test_a_prompt_cancelled_while_it_waits_is_not_sent(page: ChatPage, demo: DemoSite) -> None:
    await eventually(lambda: not page.busy)
    async with aclosing(page.ask("a", "[[tokens=2000]]", "demo-small")) as pieces:
        await anext(pieces)
        cancelled, next_one = (asyncio.create_task(ask(page, prompt)) for prompt in ("cancelled", "next"))
        await asyncio.sleep(0)  # both wait for the page now
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    check_answer(await next_one, "next", last(demo))
    assert [entry.prompt for entry in demo.ledger.entries()[-2:]] == ["[[tokens=2000]]", "next"]


async def test_a_request_is_marked_before_it_is_sent(page: ChatPage, demo: DemoSite) -> None:
    await ask(page, "hello", request_id="a")
    assert not page.was_submitted("marked")
    await ask(page, "hello", request_id="marked")
    assert page.was_submitted("marked")
    assert (page._run_dir / "submitted").read_text().endswith("\nmarked\n")


async def test_an_unknown_model(page: ChatPage, demo: DemoSite) -> None:
    await eventually(lambda: not page.busy)
    before = demo.ledger.revision
    with pytest.raises(ModelNotFound, match="demo-small, demo-large, demo-echo"):
        await ask(page, "hello", "gpt-4")
    assert demo.ledger.revision == before
    assert not page.busy


async def test_half_a_surrogate_pair_is_not_sent(page: ChatPage, demo: DemoSite) -> None:
    before = demo.ledger.revision
    with pytest.raises(PromptRejected) as caught:
        await ask(page, "half \ud83d", request_id="half")
    assert not caught.value.submitted
    assert not page.was_submitted("half")
    assert demo.ledger.revision == before


@pytest.mark.parametrize("shape", ["error=server", "error=middle", "break_off"])
async def test_an_error_of_the_site(page: ChatPage, demo: DemoSite, shape: str) -> None:
    with pytest.raises(SiteFailed) as caught:
        await ask(page, f"[[{shape}]]")
    assert caught.value.submitted
    assert page.status.ready
    check_answer(await ask(page, "next"), "next", last(demo))


async def test_a_refused_prompt_leaves_the_page_ready(page: ChatPage, demo: DemoSite) -> None:
    with pytest.raises(PromptRefused, match="the site file's text 'against the rules'") as caught:
        await ask(page, "[[error=refused]]")
    assert caught.value.submitted
    assert page.status.ready
    check_answer(await ask(page, "next"), "next", last(demo))

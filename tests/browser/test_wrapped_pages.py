"""Chat pages made of nested web components, in shadow roots, and one in a frame: every part of a site file works there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from browser.errors import SiteFailed
from browser.settings import EngineName
from tests.browser.asking import ask
from tests.browser.conftest import Pages
from tests.browser.wrapped_page import WrappedPage, Wrapping, answer_to, wrapped_page
from tests.browser.profiles import no_login
from tests.support.waiting import HANG_LIMIT_S, eventually

ENGINES = ["chromium", pytest.param("firefox", marks=pytest.mark.firefox)]
WRAPPINGS: list[Wrapping] = ["shadow", "frame"]
KINDS = {"jsonl": ["fetch", "xhr"], "sse": ["eventsource"], "websocket": ["websocket"]}


@pytest.fixture
async def wrapped() -> AsyncIterator[WrappedPage]:
    async with wrapped_page() as page:
        yield page


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
async def test_answers_by_the_traffic(
    shared_pages: Pages, wrapped: WrappedPage, wrapping: Wrapping, kind: str, engine: EngineName
) -> None:
    page = await shared_pages.open(wrapped.site(wrapping, kind, read="network"), no_login(), engine=engine)
    assert page.status.ready
    for way in KINDS[kind]:
        prompt = f"{way} one\nand second line"
        assert await ask(page, prompt, "wrapped") == answer_to(prompt)
        assert wrapped.prompts[-1] == prompt


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("read", ["network", "dom"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
async def test_an_answer_is_stopped_and_an_error_is_seen(
    shared_pages: Pages, wrapped: WrappedPage, wrapping: Wrapping, read: str, engine: EngineName
) -> None:
    page = await shared_pages.open(wrapped.site(wrapping, read=read), no_login(), engine=engine)
    for number in range(2):
        prompt = f"fetch {number}\nand second line"
        assert await ask(page, prompt, "wrapped") == answer_to(prompt)
    async with aclosing(page.ask("a", "fetch endless", "wrapped")) as pieces:
        await anext(pieces)
    await asyncio.wait_for(wrapped.left.wait(), HANG_LIMIT_S)
    with pytest.raises(SiteFailed):
        await ask(page, "fetch refuse", "wrapped")
    await eventually(lambda: page.status.ready and not page.busy)
    assert await ask(page, "fetch last", "wrapped") == answer_to("fetch last")

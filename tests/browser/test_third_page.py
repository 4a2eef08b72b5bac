"""A page that is none of ours, served by a site file alone; and the hook, which must not be felt by any page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from browser.errors import FirstTokenTimeout
from browser.page.chat_page import ChatPage
from browser.settings import EngineName
from browser.site.schema import Action, FreshChat
from tests.browser.asking import ask
from tests.browser.conftest import Pages, tab_of
from tests.browser.third_page import ThirdPage, answer_to, third_page
from tests.support.size import size
from tests.support.waiting import HANG_LIMIT_S, eventually


@pytest.fixture
async def third() -> AsyncIterator[ThirdPage]:
    async with third_page() as page:
        yield page


@pytest.mark.parametrize("way", ["eventsource", "xhr", "reader"])
async def test_answers_over_the_pages_traffic(shared_pages: Pages, third: ThirdPage, way: str) -> None:
    page = await shared_pages.open(third.site(way, dom=False), third.state())
    assert page.status.ready
    for prompt in ("first\nand second line", "second"):
        assert await ask(page, prompt, "third") == answer_to(prompt)
    assert third.prompts == ["first\nand second line", "second"]
    async with aclosing(page.ask("a", "endless", "third")) as pieces:
        await anext(pieces)
    await asyncio.wait_for(third.left.wait(), HANG_LIMIT_S)
    assert await ask(page, "third", "third") == answer_to("third")


@pytest.mark.parametrize("engine", ["chromium", pytest.param("firefox", marks=pytest.mark.firefox)])
async def test_a_page_that_aborts_its_request_at_the_end(
    shared_pages: Pages, third: ThirdPage, engine: EngineName
) -> None:
    """Firefox drops what of a copied body was not read yet."""
    page = await shared_pages.open(third.site("aborter", dom=False), third.state(), engine=engine)
    for number in range(size(8, 20)):
        prompt = f"burst {number}"
        assert await ask(page, prompt, "third") == answer_to(prompt)
        await asyncio.wait_for(third.left.wait(), HANG_LIMIT_S)
        third.left.clear()


async def test_a_page_that_opens_on_an_empty_conversation_is_loaded_once_for_each(
    shared_pages: Pages, third: ThirdPage
) -> None:
    given = third.site("xhr")
    page = await shared_pages.open(
        given.model_copy(update={"fresh_chat": FreshChat(actions=(Action(goto="?way=xhr"),))}), third.state()
    )
    assert page.status.ready
    assert third.loads == 1
    assert await ask(page, "hello", "third") == answer_to("hello")
    await eventually(lambda: not page.busy and page.status.ready)
    assert third.loads == 2


async def test_what_a_worker_fetches_is_read_from_the_page(shared_pages: Pages, third: ThirdPage) -> None:
    page = await shared_pages.open(third.site("worker"), third.state())
    assert page.status.capture == "network"
    assert await ask(page, "hello", "third") == answer_to("hello")


async def test_what_cannot_be_seen_at_all_is_no_answer(shared_pages: Pages, third: ThirdPage) -> None:
    page = await shared_pages.open(third.site("worker", dom=False), third.state(), first_token_timeout_s=1.0)
    with pytest.raises(FirstTokenTimeout) as caught:
        await ask(page, "hello", "third")
    assert caught.value.submitted
    await eventually(lambda: not page.busy and page.status.ready)


async def test_a_key_in_local_storage_that_is_wrong(shared_pages: Pages, third: ThirdPage) -> None:
    page = await shared_pages.open(third.site("xhr"), third.state("abracadabra"))
    assert page.status.reason == "login_expired"


NATIVE = """() => {
  const code = Function.prototype.toString;
  const { open, send } = XMLHttpRequest.prototype;
  return [fetch, WebSocket, EventSource, open, send, Element.prototype.attachShadow].map((made) => [
    code.call(made).replace(/\\s+/g, " ").endsWith("{ [native code] }"), made.name, made.length,
  ]);
}"""


async def inside(page: ChatPage, expression: str) -> object:
    return await tab_of(page).page.evaluate(expression)


async def test_the_page_does_not_feel_the_hook(shared_pages: Pages, third: ThirdPage) -> None:
    page = await shared_pages.open(third.site("reader"), third.state())
    async with aclosing(page.ask("a", "hello", "third")) as pieces:
        answer = "".join([piece async for piece in pieces])
        received = await inside(page, "window.received.join('')")
    assert received == answer == answer_to("hello")
    assert await inside(page, NATIVE) == [
        [True, "fetch", 1],
        [True, "WebSocket", 1],
        [True, "EventSource", 1],
        [True, "open", 2],
        [True, "send", 0],
        [True, "attachShadow", 1],
    ]
    assert await inside(page, "new WebSocket('ws://127.0.0.1:9/') instanceof WebSocket")
    assert await inside(page, "(class extends WebSocket {}).prototype instanceof WebSocket")
    assert await inside(page, "Object.keys(window).filter((name) => name.startsWith('_'))") == []
    assert await inside(page, "fetch('http://127.0.0.1:9/').catch((error) => error instanceof TypeError)")
    await frames_and_other_origins_have_no_handle(page, third)


async def test_a_page_that_spies_does_not_learn_the_token(shared_pages: Pages, third: ThirdPage) -> None:
    page = await shared_pages.open(third.site("xhr&thief=1", dom=False), third.state())
    for prompt in ("first", "second"):
        assert await ask(page, prompt, "third") == answer_to(prompt)
    await inside(page, "JSON.stringify('the spy is awake')")
    stolen = await inside(page, "window.stolen.join(' ')")
    assert isinstance(stolen, str)
    assert "the spy is awake" in stolen
    assert page._capture._token not in stolen


async def frames_and_other_origins_have_no_handle(page: ChatPage, third: ThirdPage) -> None:
    name = page._capture.hook_name
    assert await inside(page, f"'{name}' in window")
    framed = f"""(async () => {{
      const frame = document.createElement("iframe");
      frame.src = "/";
      await new Promise((resolve) => {{ frame.onload = resolve; document.body.append(frame); }});
      return "{name}" in frame.contentWindow;
    }})()"""
    assert await inside(page, framed) is False
    await tab_of(page).page.goto(third.url.replace("127.0.0.1", "localhost"))
    assert await inside(page, f"'{name}' in window") is False

"""Chat pages made of web components in nested shadow roots, and one in a frame: all of a site file works there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from playwright.async_api import Browser, Page

from browser.check import page_facts
from browser.errors import SiteFailed
from browser.page.locate import locate
from browser.page.page_input import enter_prompt
from browser.page.tab import Tab
from browser.page.upload import upload_images
from browser.settings import EngineName
from browser.site.schema import Action, Input
from tests.browser.asking import ask
from tests.browser.conftest import Pages, tab_of
from tests.browser.profiles import no_login
from tests.browser.wrapped_page import PAGE, WrappedPage, Wrapping, answer_to, at, wrapped_page
from tests.support.pictures import image
from tests.support.waiting import HANG_LIMIT_S, eventually

pytestmark = pytest.mark.slow

ENGINES = ["chromium", pytest.param("firefox", marks=pytest.mark.firefox)]
WRAPPINGS: list[Wrapping] = ["shadow", "frame"]
SELECTORS = {"fill", "select", "on", "wait_for", "wait_gone", "dismiss"}
INPUTS = [
    ("#box", ["setter", "fill", "insert_text", "lines"]),
    ("#editor", ["fill", "insert_text", "paste", "lines"]),
]
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


RENEW = """([source, page]) => {
  const old = document.querySelector("iframe.chat");
  const frame = Object.assign(document.createElement("iframe"), { className: "chat", width: 700, height: 400 });
  if (source === "src") frame.src = "/?wrapping=shadow";
  if (source === "srcdoc") frame.srcdoc = page;
  old.replaceWith(frame);
  if (source !== "write") return new Promise((resolve) => { frame.onload = () => resolve(); });
  frame.contentDocument.write(page);
  frame.contentDocument.close();
}"""


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_frame_that_is_made_anew_is_captured_whatever_its_document_is_made_of(
    shared_pages: Pages, wrapped: WrappedPage, engine: EngineName
) -> None:
    page = await shared_pages.open(wrapped.site("frame", read="network"), no_login(), engine=engine)
    for source in ("src", "srcdoc", "write"):
        tab = tab_of(page)
        async with page.exclusive:  # a page that lacks its frame for a moment would be loaded anew
            await tab.page.evaluate(RENEW, [source, PAGE])
            assert await tab.wait_until(lambda seen: seen.usable, HANG_LIMIT_S)
        assert await ask(page, f"fetch {source}", "wrapped") == answer_to(f"fetch {source}")


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


PROMPT = 'first: "Grüße" & <b>\n\n  indented\ttab\n東京 👩‍🚀 {x} \\n\nlast'
# All that a page gives for a step: what it is done with, and what then holds.
STEPS = [
    (Action(fill="#title", value="api"), "#title", "(element) => element.value === 'api'"),
    (Action(select="chat-box > #model", value="large"), "#model", "(element) => element.value === 'large'"),
    (
        Action(press="End", on="chat-app #title"),
        "#title",
        "(element) => element.getRootNode().activeElement === element",
    ),
    (Action(wait_for="chat-box:has-text('tour') #tour"), "#tour", "(element) => element.isConnected"),
    (Action(dismiss=".app #close"), "chat-box", "(box) => !(box.shadowRoot || box).querySelector('#tour')"),
    (Action(wait_gone="#tour"), "chat-box", "(box) => !(box.shadowRoot || box).querySelector('#tour')"),
]


@pytest.fixture
async def shown(wrapped: WrappedPage, each_browser: Browser, wrapping: Wrapping) -> AsyncIterator[Page]:
    """The wrapped page in a browser, without a hook."""
    page = await each_browser.new_page()
    await page.goto(wrapped.address(wrapping))
    yield page
    await page.close()


@pytest.mark.parametrize("wrapping", WRAPPINGS)
async def test_prompts_steps_and_images_go_in(wrapped: WrappedPage, shown: Page, wrapping: Wrapping) -> None:
    for field, methods in INPUTS:
        for method in methods:
            key = {"line_break": "Enter"} if method == "lines" else {}
            selector = f"{at(wrapping)}chat-box {field}"
            given = Input.model_validate({"selector": selector, "methods": (method,), **key})
            for prompt in (PROMPT, "another"):
                assert await enter_prompt(shown, given, prompt) == method, (field, method)
    tab = Tab(shown, wrapped.site(wrapping))
    for step, selector, holds in STEPS:
        keys = {key: f"{at(wrapping)}{text}" for key, text in step.model_dump().items() if key in SELECTORS and text}
        await tab.run((step.model_copy(update=keys),))
        assert await locate(shown, f"{at(wrapping)}{selector}").evaluate(holds), step
    await upload_images(tab, [image()] * 2)
    assert await page_facts.css(shown, f"{at(wrapping)}.app #thumbs > u") == "finds 2 elements, visible"
    if wrapping == "frame":
        for say in (page_facts.css, page_facts.found):
            assert (await say(shown, "#thumbs > u")).endswith("as in 'iframe >>> #thumbs > u'")
            assert (
                await say(shown, "#nothing") == await say(shown, "iframe >>> #nothing") == "finds nothing on the page"
            )

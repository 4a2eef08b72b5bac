"""Screenshots of the page, in any state of it."""

from __future__ import annotations

import os
import signal
from contextlib import aclosing

import pytest

from browser.errors import BrowserLost, NotStarted, ScreenshotTimeout
from browser.page.chat_page import ChatPage
from demo.site import DemoSite
from tests.browser.asking import check_answer, last
from tests.browser.conftest import Pages, demo_file, tab_of
from tests.browser.profiles import cookie_state
from tests.support import png

MUTATIONS = """() => {
  window.mutations = 0;
  const count = (records) => { window.mutations += records.length; };
  new MutationObserver(count).observe(document, { subtree: true, childList: true, attributes: true });
}"""


async def test_a_screenshot_changes_nothing_on_the_page(shared_page: ChatPage) -> None:
    tab = tab_of(shared_page).page
    await tab.evaluate(MUTATIONS)
    picture = png.decode(await shared_page.screenshot())
    assert (picture.width, picture.height) == (1280, 720)
    assert picture.variety > 10
    assert await tab.evaluate("window.mutations") == 0


@pytest.mark.firefox
async def test_a_screenshot_in_firefox(shared_pages: Pages, demo: DemoSite) -> None:
    page = await shared_pages.open(demo_file(demo), cookie_state(demo), engine="firefox")
    picture = png.decode(await page.screenshot())
    assert (picture.width, picture.height) == (1280, 720)
    assert picture.variety > 10


async def test_a_screenshot_during_an_answer(shared_page: ChatPage, demo: DemoSite) -> None:
    async with aclosing(shared_page.ask("a", "[[tokens=100]]", "demo-small")) as pieces:
        text = await anext(pieces)
        assert png.decode(await shared_page.screenshot()).variety > 10
        text += "".join([piece async for piece in pieces])
    check_answer(text, "[[tokens=100]]", last(demo))


async def test_no_screenshot_of_a_browser_that_hangs_or_is_dead(page: ChatPage) -> None:
    group = page._browser.identity.pid
    os.killpg(group, signal.SIGSTOP)
    try:
        with pytest.raises(ScreenshotTimeout):
            await page.screenshot(timeout_s=0.5)
    finally:
        os.killpg(group, signal.SIGCONT)
    assert png.decode(await page.screenshot()).variety > 10
    os.killpg(group, signal.SIGKILL)
    for _ in ("while it is found out", "afterwards"):
        with pytest.raises(BrowserLost):
            await page.screenshot()


async def test_no_screenshot_before_the_page_is_started(pages: Pages, demo: DemoSite) -> None:
    page = pages.make(demo_file(demo), cookie_state(demo))
    with pytest.raises(NotStarted):
        await page.screenshot()

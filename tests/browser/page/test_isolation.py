"""What a site may do to the machine that its page runs on: no further pages, no downloads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Page

from browser.page.chat_page import ChatPage
from browser.settings import EngineName
from demo.site import DemoSite
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, demo_file, tab_of
from tests.browser.profiles import cookie_state
from tests.support.waiting import eventually

FIREFOX = pytest.param("firefox", marks=pytest.mark.firefox)
OPEN_PAGES = """() => {
  for (let count = 0; count < 5; count++) open(location.href);
  open("about:blank", "", "noopener,width=300,height=300");
  const link = Object.assign(document.createElement("a"), { href: location.href, target: "_blank", rel: "noopener" });
  document.body.append(link);
  link.click();
}"""
DOWNLOAD = """() => {
  const href = URL.createObjectURL(new Blob([new Uint8Array(20_000_000)]));
  const link = Object.assign(document.createElement("a"), { href, download: "large.bin" });
  document.body.append(link);
  link.click();
}"""


@pytest.mark.parametrize("engine", ["chromium", FIREFOX])
async def test_pages_that_the_site_opens_are_closed(shared_pages: Pages, demo: DemoSite, engine: EngineName) -> None:
    page = await shared_pages.open(demo_file(demo), cookie_state(demo), engine=engine)
    tab = tab_of(page).page
    opened: list[Page] = []
    tab.context.on("page", lambda page: opened.append(page))  # noqa: PLW0108 - a method takes no attribute
    await tab.evaluate(OPEN_PAGES)
    await eventually(
        lambda: len(opened) == 7 and tab.context.pages == [tab],
        timeout_s=15,
        what=lambda: ([(page.url, page.is_closed()) for page in opened], tab.context.pages),
    )
    check_answer(await ask(page, "hello"), "hello", last(demo))


async def test_a_page_that_the_site_opens_while_the_tab_is_opened_is_not_taken_for_it(
    shared_page: ChatPage, demo: DemoSite
) -> None:
    assert shared_page._opened
    site_page = shared_page._opened.page
    context = site_page.context
    async with shared_page.exclusive:
        await asyncio.gather(site_page.open_tab(), *(context.new_page() for _ in range(3)))
        await eventually(lambda: context.pages == [site_page.tab.page], timeout_s=30)
        await site_page.open()
    check_answer(await ask(shared_page, "hello"), "hello", last(demo))


async def test_downloads_are_refused(
    pages: Pages, demo: DemoSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    page = await pages.open(demo_file(demo), cookie_state(demo))
    tab = tab_of(page).page
    async with tab.expect_download() as download:
        await tab.evaluate(DOWNLOAD)
    assert await (await download.value).failure()
    assert [path.name for path in folder.rglob("*") if path.is_file() and path.stat().st_size >= 20_000_000] == []
    check_answer(await ask(page, "hello"), "hello", last(demo))

"""What a page sees of its login's own locale, time zone, size and user agent; and that it is read all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from browser.page.chat_page import ChatPage
from browser.settings import EngineName
from contract.surroundings import Surroundings, Viewport
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, demo_file
from tests.browser.profiles import cookie_state

if TYPE_CHECKING:
    from demo.site import DemoSite

OWN = Surroundings(
    locale="de-DE",
    timezone="Asia/Tokyo",
    viewport=Viewport(width=900, height=640),
    user_agent="Mozilla/5.0 (of our own)",
)
LOOK = """async () => [
    navigator.language, Intl.DateTimeFormat().resolvedOptions().timeZone, innerWidth, innerHeight, navigator.userAgent,
    (1234.5).toLocaleString(),
]"""
SEEN = ["de-DE", "Asia/Tokyo", 900, 640, "Mozilla/5.0 (of our own)", "1.234,5"]


async def seen(page: ChatPage) -> Any:
    assert page._opened is not None
    return await page._opened.page.tab.page.evaluate(LOOK)


@pytest.mark.parametrize("engine", ["chromium", pytest.param("firefox", marks=pytest.mark.firefox)])
async def test_a_page_sees_its_own_surroundings(shared_pages: Pages, demo: DemoSite, engine: EngineName) -> None:
    page = await shared_pages.open(demo_file(demo), cookie_state(demo), engine=engine, surroundings=OWN)
    assert await seen(page) == SEEN
    assert page.status.capture == "network"  # the hook is there, and reaches its port
    check_answer(await ask(page, "one"), "one", last(demo))

    # A context that takes the place of one that hangs is like it.
    assert page._opened is not None
    async with page.exclusive:
        await page._opened.page.renew(cookie_state(demo))
    assert await seen(page) == SEEN
    check_answer(await ask(page, "two"), "two", last(demo))


async def test_what_is_not_given_is_as_in_any_browser(shared_pages: Pages, demo: DemoSite) -> None:
    """One that has only a locale has the usual size, and the browser's own name."""
    page = await shared_pages.open(demo_file(demo), cookie_state(demo), surroundings=Surroundings(locale="pt-BR"))
    language, _, width, height, user_agent, number = await seen(page)
    assert (language, width, height, number) == ("pt-BR", 1280, 720, "1.234,5")
    assert "Chrome/" in user_agent

"""A page that is closed while it is idle, and opens again with the next request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from browser.errors import LoginExpired
from browser.page import page_monitor
from browser.page.chat_page import ChatPage
from demo.site import DemoSite
from tests.browser.asking import ask
from tests.browser.conftest import Pages, demo_file, tab_of
from tests.browser.profiles import cookie_state
from tests.support.waiting import eventually

NEVER_S = 3600.0


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_monitor, "TICK_S", 0.05)


async def sleeping(pages: Pages, demo: DemoSite, **settings: Any) -> ChatPage:
    page = await pages.open(demo_file(demo), cookie_state(demo), **{"sleep_after_s": 0.2, **settings})
    await eventually(lambda: page.status.asleep)
    return page


async def test_it_sleeps_when_idle_is_ready_meanwhile_and_wakes_for_a_prompt(
    shared_pages: Pages, demo: DemoSite
) -> None:
    page = await sleeping(shared_pages, demo, sleep_check_s=NEVER_S)
    browser = await page._browser.host.start()
    assert page.status.ready
    await eventually(lambda: not page.busy)
    context = page.site_page.context
    assert context not in browser.contexts
    answers = await asyncio.gather(*(ask(page, f"number {number}") for number in range(3)))
    assert len(set(answers)) == 3
    assert not page.status.asleep
    await eventually(lambda: page.status.asleep)


async def test_a_session_that_changed_is_kept(shared_pages: Pages, demo: DemoSite) -> None:
    page = await shared_pages.open(demo_file(demo), cookie_state(demo), sleep_after_s=1.0, sleep_check_s=NEVER_S)
    cookie = {"name": "seen", "value": "by-the-page", "url": demo.url}
    await tab_of(page).page.context.add_cookies([cookie])  # type: ignore[list-item]
    await eventually(lambda: page.status.asleep)
    await ask(page, "again")
    kept = {one["name"]: one["value"] for one in await page.site_page.context.cookies()}
    assert kept["seen"] == "by-the-page"


async def test_it_wakes_to_see_that_the_login_holds(shared_pages: Pages, demo: DemoSite) -> None:
    page = await sleeping(shared_pages, demo, sleep_check_s=0.2)
    demo.sessions.expire(None)
    await eventually(lambda: page.status.reason == "login_expired")
    assert not page.status.ready


async def test_a_login_that_ended_meanwhile_is_told_before_anything_is_sent(
    shared_pages: Pages, demo: DemoSite
) -> None:
    page = await sleeping(shared_pages, demo, sleep_check_s=NEVER_S)
    demo.sessions.expire(None)
    with pytest.raises(LoginExpired) as caught:
        await ask(page, "hello")
    assert not caught.value.submitted


async def test_a_screenshot_wakes_it(shared_pages: Pages, demo: DemoSite) -> None:
    page = await sleeping(shared_pages, demo, sleep_check_s=NEVER_S)
    assert (await page.screenshot()).startswith(b"\x89PNG")


async def test_it_does_not_sleep_by_default(shared_page: ChatPage) -> None:
    with pytest.raises(AssertionError):
        await eventually(lambda: shared_page.status.asleep, timeout_s=1.0)
    assert shared_page.site_page.context.pages


async def test_one_that_sleeps_can_be_closed(shared_pages: Pages, demo: DemoSite) -> None:
    page = await sleeping(shared_pages, demo, sleep_check_s=NEVER_S)
    await page.close()


@pytest.mark.parametrize("turns", [0, 2, 5, *(pytest.param(turns, marks=pytest.mark.slow) for turns in (1, 3, 8, 13))])
async def test_one_that_is_closed_while_it_falls_asleep_leaves_the_browser_to_others(
    shared_pages: Pages, demo: DemoSite, turns: int
) -> None:
    page = await shared_pages.open(demo_file(demo), cookie_state(demo), sleep_after_s=0.2, sleep_check_s=NEVER_S)
    context, host = page.site_page.context, page._browser.host
    await eventually(lambda: page.status.asleep)
    for _ in range(turns):
        await asyncio.sleep(0)
    await page.close()
    assert host.process.lost is None
    assert context not in (await host.start()).contexts

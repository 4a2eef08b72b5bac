"""What tests/browser/page/test_storage.py shows of Chromium, in Firefox."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from browser.page import storage
from browser.page.storage import as_browser_loads_it
from demo.accounts import LoginKind
from demo.site import DemoSite
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, tab_of
from tests.browser.page.test_storage import PUT, SHOW, any_site, reopened, save, site_page
from tests.browser.profiles import kind_state

pytestmark = pytest.mark.firefox

KINDS: tuple[LoginKind, ...] = ("rotating", "token", "database", "tab")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_login_of_every_kind_outlives_a_restart(pages: Pages, demo: DemoSite, kind: LoginKind) -> None:
    page = await pages.open(any_site(demo), kind_state(demo, kind), engine="firefox")
    check_answer(await ask(page, "hello"), "hello", last(demo))
    page = await reopened(pages, page, any_site(demo))
    check_answer(await ask(page, "again"), "again", last(demo))
    assert demo.sessions.reused == 0


async def test_values_and_cookies_of_every_form(shared_pages: Pages, demo: DemoSite) -> None:
    """The values of IndexedDB, and cookies that Firefox treats otherwise than Chromium."""
    page = await shared_pages.open(any_site(demo), kind_state(demo, "database"), engine="firefox")
    await tab_of(page).page.evaluate(PUT)
    before = await tab_of(page).page.evaluate(SHOW)
    state = await save(page)
    gone = ('string "blob"', 'string "map"', 'string "cryptokey"', 'string "deep"')
    wanted = [line.replace('"half \\ud83d"', '"half \ufffd"') for line in before if not line.startswith(gone)]
    async with page.exclusive:
        await site_page(page).renew(state)
        assert await tab_of(page).page.evaluate(SHOW) == wanted
    browser = site_page(page).context.browser
    assert browser
    base = {"domain": "chat.example.com", "path": "/", "expires": time.time() + 1000, "httpOnly": True, "secure": True}
    cookies = [
        base | {"name": "__Host-id", "value": "2", "sameSite": "Strict"},
        base | {"name": "quoted", "value": '"a b"', "sameSite": "Lax"},
        base | {"name": "far", "value": "3", "sameSite": "Lax", "expires": time.time() + 2000 * 86400},
        base | {"name": "none", "value": "4", "sameSite": "None", "secure": False},
    ]
    state = {"cookies": cookies, "origins": []}
    for _ in range(2):
        given = as_browser_loads_it(state)
        context = await browser.new_context(storage_state=cast("Any", given))
        state = (await storage.read_storage(context, "https://chat.example.com", {})).state
        await context.close()
    assert {cookie["name"]: cookie["value"] for cookie in state["cookies"]} == {
        cookie["name"]: cookie["value"] for cookie in cookies
    }

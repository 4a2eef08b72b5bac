"""The demo site's other ways: to log in, to answer, to refuse."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from browser.errors import LoginExpired, QuotaExceeded, SiteFailed
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, demo_file
from tests.browser.profiles import cookie_state, local_storage_state

if TYPE_CHECKING:
    from browser.page import ChatPage
    from demo.site import DemoSite


async def test_the_site_wants_rest(page: ChatPage, demo: DemoSite) -> None:
    with pytest.raises(QuotaExceeded) as caught:
        await ask(page, "[[error=quota]]")
    assert caught.value.submitted
    assert page.status.reason == "quota"
    assert 1790 < (page.status.rest_s or 0) <= 1800
    with pytest.raises(QuotaExceeded) as again:
        await ask(page, "hello", request_id="b")
    assert not again.value.submitted
    assert len(demo.ledger.entries()) == 1


async def test_a_login_that_ends_in_an_answer(page: ChatPage, demo: DemoSite) -> None:
    with pytest.raises(LoginExpired) as caught:
        await ask(page, "[[error=expired]]")
    assert caught.value.submitted
    assert page.status.reason == "login_expired"


async def test_the_login_in_local_storage(pages: Pages, demo: DemoSite) -> None:
    page = await pages.open(demo_file(demo, "/token/chat"), local_storage_state(demo, "grace"))
    assert page.status.ready
    check_answer(await ask(page, "hello"), "hello", last(demo))
    assert last(demo).account == "grace"


NO_NETWORK = {
    "network": '[capture.network]\nkind = "sse"\nurl = "*/api/chat"\nmethod = "POST"\n'
    "text = \"data.type == 'token' && data.text\"\nend = \"data.type == 'done'\"\n"
    "error = \"data.type == 'error' && data.message\"\n|"
}
WEBSOCKET = {"kind": 'kind = "sse"\nurl = "*/api/chat"\nmethod = "POST"|kind = "websocket"\nurl = "*/api/ws"'}


async def test_answers_over_a_websocket(pages: Pages, demo: DemoSite) -> None:
    page = await pages.open(demo_file(demo, "/chat?transport=ws", **WEBSOCKET), cookie_state(demo))
    for prompt in ("first [[unicode]]", "second"):
        check_answer(await ask(page, prompt), prompt, last(demo))
    assert last(demo).transport == "ws"
    with pytest.raises(SiteFailed):
        await ask(page, "[[break_off]]")
    async with aclosing(page.ask("a", "[[tokens=2000]]", "demo-small")) as pieces:
        await anext(pieces)
    assert last(demo).outcome == "stopped"


async def test_answers_read_from_the_page(pages: Pages, demo: DemoSite) -> None:
    page = await pages.open(demo_file(demo, **NO_NETWORK), cookie_state(demo))
    assert page.status.capture == "dom"
    for prompt in ("first [[unicode tokens=100]]", "second [[code]]"):
        check_answer(await ask(page, prompt), prompt, last(demo))
    assert await ask(page, "[[empty]]") == ""
    with pytest.raises(QuotaExceeded):
        await ask(page, "[[error=quota]]")


async def test_traffic_that_is_not_seen_is_read_from_the_page(pages: Pages, demo: DemoSite) -> None:
    page = await pages.open(demo_file(demo, url='url = "*/api/chat"|url = "*/elsewhere"'), cookie_state(demo))
    assert page.status.capture == "network"
    check_answer(await ask(page, "hello [[tokens=400]]"), "hello [[tokens=400]]", last(demo))

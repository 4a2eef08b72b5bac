"""A page whose login has a proxy of its own: in real browsers, with a small real proxy that comes and goes.

That nothing goes past it is shown in `tests/browser/way_out`, packet by packet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from browser.errors import ProxyUnreachable
from browser.page import page_monitor
from browser.page.chat_page import ChatPage
from browser.process import own_proxy
from browser.settings import EngineName
from contract.proxies import parse_own_proxy
from demo.site import DemoSite
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, demo_file, tab_of
from tests.browser.process.test_own_proxy import serving
from tests.browser.profiles import cookie_state
from tests.browser.small_proxy import LOGIN, small_proxy
from tests.support.ports import NOWHERE, free_range
from tests.support.waiting import eventually

DEAD = "the login's proxy refuses connections; does it run?"


def unready(page: ChatPage, reason: str) -> Callable[[], bool]:
    return lambda: page.status.reason == reason


@pytest.mark.parametrize(
    ("engine", "kind"), [("chromium", "socks5"), pytest.param("firefox", "http", marks=pytest.mark.firefox)]
)
async def test_a_page_is_served_through_its_proxy_or_not_at_all(
    pages: Pages, demo: DemoSite, monkeypatch: pytest.MonkeyPatch, engine: EngineName, kind: str
) -> None:
    monkeypatch.setattr(own_proxy, "LOOK_AGAIN_S", 0.2)
    monkeypatch.setattr(page_monitor, "FIRST_RETRY_S", 0.2)
    port = free_range(1)
    host = demo.url.removeprefix("http://")
    async with small_proxy(kind, port=port) as small:
        proxy = parse_own_proxy(small.url_with_login)
        small.stop()
    # The login's own proxy comes before the operator's, and NO_PROXY is not for it.
    page = await pages.open(
        demo_file(demo), cookie_state(demo), engine=engine, proxy=proxy, https_proxy=NOWHERE, no_proxy="127.0.0.1"
    )
    assert (page.status.reason, page.status.detail) == ("proxy_unreachable", DEAD)

    async with small_proxy(kind, port=port) as small:
        small.login = ("another", "login")
        await eventually(unready(page, "proxy_refused"))
        small.login = LOGIN
        await eventually(lambda: page.status.ready)
        asked = len(small.asked)
        check_answer(await ask(page, "hello"), "hello", last(demo))
        assert host in small.asked[asked:]

        # What listens on this machine besides is not for the page, though the proxy could reach it.
        async with serving() as other:
            tried = f"fetch('http://127.0.0.1:{other.port}/', {{mode: 'no-cors'}}).then(() => 'reached', () => 'not')"
            assert await tab_of(page).page.evaluate(tried) == "not"
            assert other.heads == []

        asking = asyncio.create_task(ask(page, "[[stall=middle]]"), name="asking")
        await eventually(lambda: demo.ledger.entries()[-1].pieces)
        small.kill()
        with pytest.raises(ProxyUnreachable, match="refuses connections") as caught:
            await asking
        assert caught.value.submitted

    await eventually(unready(page, "proxy_unreachable"))
    assert page.status.detail == DEAD
    entries = len(demo.ledger.entries())
    with pytest.raises(ProxyUnreachable, match="refuses connections") as caught:
        await ask(page, "nobody hears this")
    assert not caught.value.submitted
    assert len(demo.ledger.entries()) == entries
    async with small_proxy(kind, port=port) as small:
        small.login = LOGIN
        await eventually(lambda: page.status.ready)
        check_answer(await ask(page, "back"), "back", last(demo))

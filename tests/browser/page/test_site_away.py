"""A site that goes away while its page is open, and comes back, in real Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from browser.page import page_monitor, socket_watch
from browser.page.chat_page import ChatPage
from browser.settings import EngineName
from demo.site import DemoSite, serve
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, demo_file, tab_of
from tests.browser.frail_page import FrailSite, frail_site
from tests.browser.profiles import cookie_state
from tests.support.ports import free_range
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

CHECK_S = 0.2
ENGINES = pytest.mark.parametrize("engine", ["chromium", pytest.param("firefox", marks=pytest.mark.firefox)])


def away(page: ChatPage) -> Callable[[], bool]:
    return lambda: page.status.reason == "site_unreachable"


def count_loads(page: ChatPage) -> list[str]:
    """Return the addresses that the tab opens from here on."""
    opened: list[str] = []
    tab = tab_of(page).page
    tab.on("request", lambda request: opened.append(request.url) if request.is_navigation_request() else None)
    return opened


@asynccontextmanager
async def served_again(before: DemoSite, port: int) -> AsyncIterator[DemoSite]:
    """The demo site once more at its old address, with the sessions that it had."""
    async with serve(port=port) as site:
        site.sessions._open.update(before.sessions._open)
        yield site


async def test_a_site_that_is_killed_while_idle_and_comes_back(shared_pages: Pages) -> None:
    port = free_range(1)
    async with serve(port=port) as site:
        page = await shared_pages.open(demo_file(site), cookie_state(site), login_check_s=CHECK_S)
        check_answer(await ask(page, "hello"), "hello", last(site))
        await eventually(lambda: not page.busy and page._opened and page._opened.login._check._has_answered)
        loads = count_loads(page)
    await eventually(away(page))
    assert not page.status.ready
    assert page.status.detail == page_monitor.AWAY
    assert not loads  # the page that is there is kept: it may be all that there is for a long time
    with pytest.raises(Exception, match=page_monitor.AWAY) as caught:
        await ask(page, "nobody hears this")
    assert (getattr(caught.value, "reason", None), getattr(caught.value, "submitted", None)) == (
        "site_unreachable",
        False,
    )
    async with served_again(site, port) as site:
        await eventually(lambda: page.status.ready)
        check_answer(await ask(page, "back"), "back", last(site))


@ENGINES
async def test_a_site_that_is_away_at_the_start_and_comes_back(shared_pages: Pages, engine: EngineName) -> None:
    port = free_range(1)
    async with serve(port=port) as site:
        state = cookie_state(site)
    page = await shared_pages.open(demo_file(site), state, engine=engine)
    assert (page.status.reason, page.status.detail) == ("site_unreachable", f"opening {site.url}/chat failed")
    async with served_again(site, port) as site:
        await eventually(lambda: page.status.ready)


async def test_a_reload_that_fails_tells_that_the_site_is_away(shared_pages: Pages) -> None:
    """Also where the file has no login.check."""
    port = free_range(1)
    async with serve(port=port) as site:
        file = demo_file(site, check='check = { url = "/api/me", expired_status = [401] }|')
        page = await shared_pages.open(file, cookie_state(site))
        assert page.status.ready
    await tab_of(page).page.evaluate("document.body.replaceChildren()")
    await eventually(away(page))
    async with served_again(site, port) as site:
        await eventually(lambda: page.status.ready)
        check_answer(await ask(page, "back"), "back", last(site))


# A page whose parts fail one by one.


@pytest.fixture
async def frail() -> AsyncIterator[FrailSite]:
    async with frail_site() as site:
        yield site


async def test_server_errors_of_the_check_take_it_out_and_never_save_the_session(
    shared_pages: Pages, frail: FrailSite, tmp_path: Path
) -> None:
    run_dir = tmp_path / "kept"
    run_dir.mkdir()
    page = await shared_pages.open(frail.file(), frail.state(), login_check_s=CHECK_S, run_dir=run_dir)
    await eventually(lambda: frail.checks and page.status.ready)
    frail.check_status, frail.cookie = 503, "of the error page"
    checks = frail.checks
    await eventually(away(page))
    assert frail.checks - checks <= 4  # three, and one that may have been on its way before
    await page.close()
    saved = run_dir / "session.json"
    assert not saved.exists() or "of the error page" not in saved.read_text()


async def test_one_server_error_of_the_check_is_no_reason(shared_pages: Pages, frail: FrailSite) -> None:
    page = await shared_pages.open(frail.file(), frail.state(), login_check_s=CHECK_S)
    await eventually(lambda: frail.checks)
    frail.check_status, checks = 500, frail.checks
    await eventually(lambda: frail.checks > checks)
    frail.check_status, checks = 200, frail.checks
    await eventually(lambda: frail.checks > checks + 1)
    assert page.status.ready
    assert frail.loads == 1


async def test_a_check_that_was_never_answered_is_not_believed(shared_pages: Pages, frail: FrailSite) -> None:
    """It may be wrong itself: the page is loaded once to learn which of the two it is."""
    frail.check_status = 500
    page = await shared_pages.open(frail.file(), frail.state(), login_check_s=CHECK_S)
    await eventually(lambda: frail.loads == 2)
    checks = frail.checks
    await eventually(lambda: frail.checks > checks + 4 and page.status.ready)
    assert frail.loads == 2


async def test_a_page_that_is_a_server_error_is_no_page(shared_pages: Pages, frail: FrailSite) -> None:
    """Whatever it shows: error pages have headers and login forms, too."""
    frail.page_status = 502
    page = await shared_pages.open(frail.file(), frail.state())
    assert (page.status.reason, page.status.detail) == (
        "site_unreachable",
        f"opening {frail.url}/?socket failed: the site answers with status 502",
    )
    frail.page_status = 200
    await eventually(lambda: page.status.ready)


@ENGINES
async def test_a_socket_that_stays_closed(
    shared_pages: Pages, frail: FrailSite, monkeypatch: pytest.MonkeyPatch, engine: EngineName
) -> None:
    monkeypatch.setattr(socket_watch.SocketWatch, "OPENS_WITHIN_S", 0.5)
    page = await shared_pages.open(frail.file(), frail.state(), engine=engine)
    await eventually(lambda: frail.sockets and page._opened and page._opened.monitor._socket.is_expected)
    await frail.drop_sockets()
    await eventually(away(page))
    assert page.status.detail == page_monitor.SOCKET_CLOSED
    frail.takes_sockets = True
    await eventually(lambda: page.status.ready and frail.sockets)
    await frail.drop_sockets()
    await eventually(away(page))


async def test_a_socket_that_is_opened_again_is_no_reason(shared_pages: Pages, frail: FrailSite) -> None:
    page = await shared_pages.open(frail.file(), frail.state(), login_check_s=CHECK_S)
    await eventually(lambda: frail.sockets and page._opened and page._opened.monitor._socket.is_expected)
    await frail.drop_sockets()
    frail.takes_sockets = True
    await eventually(lambda: frail.sockets)
    checks = frail.checks
    await eventually(lambda: frail.checks > checks + 5)
    assert page.status.ready
    assert frail.loads == 1

"""The child's page in Firefox ESR, started by Playwright and by Camoufox's API."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browser.errors import BrowserLost, QuotaExceeded
from browser.settings import EngineName
from demo.site import SiteOptions, serve
from tests.browser.asking import ask, check_answer, last
from tests.browser.capture.test_ways import NO_NETWORK
from tests.browser.conftest import Pages, demo_file
from tests.browser.profiles import cookie_state, local_storage_state
from tests.browser.third_page import answer_to, third_page
from tests.support.camoufox import drive_firefox
from tests.support.processes import command_line, group_members
from tests.support.waiting import HANG_LIMIT_S, eventually

if TYPE_CHECKING:
    from demo.site import DemoSite

pytestmark = pytest.mark.firefox


@pytest.fixture(params=["firefox", "camoufox"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> EngineName:
    """Firefox, or Camoufox's API with Firefox ESR in place of its own build."""
    name: EngineName = request.param
    if name == "camoufox":
        drive_firefox(monkeypatch)
    return name


async def test_answers(shared_pages: Pages, demo: DemoSite, engine: EngineName) -> None:
    page = await shared_pages.open(demo_file(demo), cookie_state(demo), engine=engine)
    assert page.status.capture == "network"
    long = "\n".join(f"{number}: {'x' * 45}" for number in range(2000))
    for prompt in ("first [[unicode split]]", "[[code]]", long):
        check_answer(await ask(page, prompt), prompt, last(demo))
    for number in range(5):
        async with aclosing(page.ask(f"s{number}", "[[tokens=2000]]", "demo-small")) as pieces:
            await anext(pieces)
        assert last(demo).outcome == "stopped"
    with pytest.raises(QuotaExceeded):
        await ask(page, "[[error=quota]]")


async def test_no_caret_blinks(pages: Pages, demo: DemoSite) -> None:
    """It is most of what an idle page costs. The focus is where the page has it."""
    page = await pages.open(demo_file(demo), cookie_state(demo), engine="firefox")
    arguments = command_line(page._browser.identity.pid)
    (profile,) = (arguments[at + 1] for at, argument in enumerate(arguments) if argument in ("-profile", "--profile"))
    assert '"ui.caretBlinkTime", 0)' in (Path(profile) / "user.js").read_text()


async def test_local_storage_and_websocket(shared_pages: Pages, demo: DemoSite) -> None:
    change = 'kind = "sse"\nurl = "*/api/chat"\nmethod = "POST"|kind = "websocket"\nurl = "*/api/ws"'
    site = demo_file(demo, "/token/chat?transport=ws", kind=change)
    page = await shared_pages.open(site, local_storage_state(demo), engine="firefox")
    check_answer(await ask(page, "hello"), "hello", last(demo))
    assert last(demo).transport == "ws"


async def test_a_strict_content_security_policy_leaves_the_console_as_sink(
    shared_pages: Pages, engine: EngineName
) -> None:
    async with serve(SiteOptions(strict_csp=True)) as demo:
        page = await shared_pages.open(demo_file(demo), cookie_state(demo), engine=engine)
        assert page.status.capture == "network"
        for prompt in ("hello [[unicode split tokens=200]]", "[[code]]"):
            pieces = [piece async for piece in page.ask("a", prompt, "demo-small")]
            check_answer("".join(pieces), prompt, last(demo))
            assert pieces == last(demo).pieces
        by_page = await shared_pages.open(demo_file(demo, **NO_NETWORK), cookie_state(demo, "grace"), engine=engine)
        assert by_page.status.capture == "dom"
        check_answer(await ask(by_page, "hello"), "hello", last(demo))


@pytest.mark.parametrize("way", ["eventsource", "xhr", "reader"])
async def test_the_third_page(shared_pages: Pages, way: str) -> None:
    async with third_page() as third:
        page = await shared_pages.open(third.site(way, dom=False), third.state(), engine="firefox")
        assert await ask(page, "first\nand second line", "third") == answer_to("first\nand second line")
        async with aclosing(page.ask("a", "endless", "third")) as pieces:
            await anext(pieces)
        await asyncio.wait_for(third.left.wait(), HANG_LIMIT_S)


async def test_the_death_of_a_pages_process_costs_neither_the_browser_nor_the_login(
    pages: Pages, demo: DemoSite, engine: EngineName
) -> None:
    """Nothing tells of it: the page hangs, and is opened in a new context."""
    page = await pages.open(demo_file(demo), cookie_state(demo), engine=engine)
    check_answer(await ask(page, "before"), "before", last(demo))
    await eventually(lambda: not page.busy)
    browser = page._browser.identity
    tabs = [pid for pid in group_members(browser.pid) if command_line(pid)[-1:] == ["tab"]]
    assert tabs
    for pid in tabs:
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not page.status.ready, timeout_s=60)
    await eventually(lambda: page.status.ready and not page.busy, timeout_s=60)
    check_answer(await ask(page, "after"), "after", last(demo))
    assert browser.is_alive()


@pytest.mark.parametrize("role", ["browser", "driver"])
async def test_a_dead_process_is_noticed_at_once(pages: Pages, demo: DemoSite, role: str) -> None:
    page = await pages.open(demo_file(demo), cookie_state(demo), engine="firefox")
    asking = asyncio.create_task(ask(page, "[[stall=middle]]"), name="asking")
    await eventually(demo.ledger.entries)
    both = page._browser.host.process._processes
    os.kill({"browser": both["browser"], "driver": both["driver"]}[role].pid, signal.SIGKILL)
    assert await asyncio.wait_for(page.wait_lost(), HANG_LIMIT_S) == f"{role}_lost"
    with pytest.raises(BrowserLost):
        await asyncio.wait_for(asking, HANG_LIMIT_S)
    await page.close()
    assert not both["browser"].is_alive()
    assert not both["driver"].is_alive()

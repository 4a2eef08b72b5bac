"""The demo site with other logins, other captures, refusals and losses."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from browser.capture import capture
from browser.capture.answer import Answer
from browser.capture.dom_poll import dom_query
from browser.capture.findings import Text
from browser.capture.frames import Feed, Frame, FrameKind
from browser.errors import CaptureGap, LoginExpired, ProfileLocked, QuotaExceeded, SiteFailed, StreamPortTaken
from browser.page.chat_page import ChatPage
from browser.process.engine import find_executable
from browser.settings import BrowserSettings
from browser.site.load import SITES_DIR, parse_site
from contract.run_folder import read_submitted
from demo.site import DemoSite, SiteOptions, serve
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, SharedBrowser, demo_file, tab_of
from tests.browser.profiles import cookie_state, local_storage_state, no_login
from tests.support.ports import NOWHERE
from tests.support.waiting import eventually


async def test_the_site_wants_rest(shared_page: ChatPage, demo: DemoSite) -> None:
    with pytest.raises(QuotaExceeded) as caught:
        await ask(shared_page, "[[error=quota]]")
    assert not caught.value.submitted, "the site says itself that it did not answer: another login may be asked"
    assert not shared_page.was_submitted("a")
    assert read_submitted(shared_page._run_dir) == frozenset()
    assert shared_page.status.reason == "quota"
    assert 1790 < (shared_page.status.rest_s or 0) <= 1800
    with pytest.raises(QuotaExceeded) as again:
        await ask(shared_page, "hello", request_id="b")
    assert not again.value.submitted
    assert len(demo.ledger.entries()) == 1


async def test_a_login_that_ends_in_an_answer(shared_page: ChatPage, demo: DemoSite) -> None:
    with pytest.raises(LoginExpired) as caught:
        await ask(shared_page, "[[error=expired]]")
    assert not caught.value.submitted
    assert shared_page.status.reason == "login_expired"


async def test_the_login_in_local_storage(shared_pages: Pages, demo: DemoSite) -> None:
    page = await shared_pages.open(demo_file(demo, "/token/chat"), local_storage_state(demo, "grace"))
    assert page.status.ready
    check_answer(await ask(page, "hello"), "hello", last(demo))
    assert last(demo).account == "grace"


async def test_a_site_without_tls_that_is_elsewhere_does_not_keep_the_child_from_starting(pages: Pages) -> None:
    """Such an origin can be granted no permission; here it cannot be reached either, which is another matter."""
    text = (SITES_DIR / "demo.toml").read_text()
    elsewhere = parse_site(text, "demo.toml", url="http://site.test:8800/chat")
    page = await pages.open(elsewhere, no_login(), https_proxy=NOWHERE)
    assert page.status.reason == "site_unreachable"


NO_NETWORK = {
    "network": '[capture.network]\nkind = "sse"\nurl = "*/api/chat"\nmethod = "POST"\n'
    "text = \"data.type == 'token' && data.text\"\nend = \"data.type == 'done'\"\n"
    "error = \"data.type == 'error' && data.message\"\nreasoning = \"data.type == 'thought' && data.text\"\n|"
}
REACHES = "(url) => fetch(url, { mode: 'no-cors' }).then(() => true, () => false)"
WEBSOCKET = {"kind": 'kind = "sse"\nurl = "*/api/chat"\nmethod = "POST"|kind = "websocket"\nurl = "*/api/ws"'}


async def test_answers_over_a_websocket(shared_pages: Pages, demo: DemoSite) -> None:
    page = await shared_pages.open(demo_file(demo, "/chat?transport=ws", **WEBSOCKET), cookie_state(demo))
    for prompt in ("first [[unicode]]", "second"):
        check_answer(await ask(page, prompt), prompt, last(demo))
    assert last(demo).transport == "ws"
    with pytest.raises(SiteFailed):
        await ask(page, "[[break_off]]")
    async with aclosing(page.ask("a", "[[tokens=2000]]", "demo-small")) as pieces:
        await anext(pieces)
    assert last(demo).outcome == "stopped"


async def test_answers_read_from_the_page(shared_pages: Pages, demo: DemoSite) -> None:
    page = await shared_pages.open(demo_file(demo, **NO_NETWORK), cookie_state(demo))
    assert page.status.capture == "dom"
    for prompt in ("first [[unicode tokens=100]]", "second [[code]]"):
        check_answer(await ask(page, prompt), prompt, last(demo))
    assert await ask(page, "[[empty]]") == ""
    with pytest.raises(QuotaExceeded):
        await ask(page, "[[error=quota]]")


async def test_traffic_that_is_not_seen_is_read_from_the_page(shared_pages: Pages, demo: DemoSite) -> None:
    page = await shared_pages.open(demo_file(demo, url='url = "*/api/chat"|url = "*/elsewhere"'), cookie_state(demo))
    assert page.status.capture == "network"
    check_answer(await ask(page, "hello [[tokens=400]]"), "hello [[tokens=400]]", last(demo))


@pytest.fixture(scope="module")
async def public(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[SharedBrowser, dict[bool, DemoSite]]]:
    """A browser to which two sites are not of this machine: one without a policy, and one with a strict one."""
    program = tmp_path_factory.mktemp("public") / "chromium"
    async with serve(SiteOptions(strict_csp=False)) as lax, serve(SiteOptions(strict_csp=True)) as strict:
        flag = ",".join(f"{urlsplit(site.url).netloc}=public" for site in (lax, strict))
        found = find_executable("chromium", BrowserSettings())
        program.write_text(f'#!/bin/sh\nexec {found} --ip-address-space-overrides={flag} "$@"\n')
        program.chmod(0o755)
        browser = SharedBrowser(tmp_path_factory.mktemp("browser"), browser_executable=program)
        yield browser, {False: lax, True: strict}
        await browser.close()


@pytest.mark.parametrize(
    ("strict_csp", "local_network", "sink", "reaches"),
    [
        (False, False, "console", False),
        (True, False, "console", False),
        (False, True, "socket", True),
        (True, True, "console", False),
    ],
)
async def test_a_public_page_reaches_no_other_service_of_this_machine_unless_its_site_file_says_so(
    public: tuple[SharedBrowser, dict[bool, DemoSite]],
    demo: DemoSite,
    tmp_path: Path,
    *,
    strict_csp: bool,
    local_network: bool,
    sink: str,
    reaches: bool,
) -> None:
    """Nor does one whose policy forbids it; its answers come all the same."""
    browser, sites = public
    visited, pages = sites[strict_csp], Pages(tmp_path, browser)
    try:
        site = demo_file(visited).model_copy(update={"local_network": local_network})
        page = await pages.open(site, cookie_state(visited))
        assert (page.status.capture, page._capture._sink) == ("network", sink)
        for prompt in ("hello [[unicode split tokens=200]]", "[[code]]"):
            check_answer(await ask(page, prompt), prompt, last(visited))
        asked = await asyncio.wait_for(tab_of(page).page.evaluate(REACHES, demo.url), 20)
        assert asked is reaches
    finally:
        await pages.close()


async def test_a_sink_that_a_policy_forbids_is_given_up_before_its_timeout(
    shared_pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "ARM_TIMEOUT_S", 3600.0)
    async with serve(SiteOptions(strict_csp=True)) as demo:
        page = await asyncio.wait_for(shared_pages.open(demo_file(demo), cookie_state(demo)), 60)
        assert page._capture._sink == "console"


async def test_a_page_without_the_hook_is_read_by_looking_at_it(shared_pages: Pages, demo: DemoSite) -> None:
    page = shared_pages.make(demo_file(demo), cookie_state(demo))
    page._capture.init_script = lambda: ""  # type: ignore[method-assign]
    await page.start()
    assert page.status.capture == "dom"
    for prompt in ("hello [[unicode tokens=100]]", "second"):
        check_answer(await ask(page, prompt), prompt, last(demo))
    async with aclosing(page.ask("a", "[[tokens=2000]]", "demo-small")) as pieces:
        await anext(pieces)
    assert last(demo).outcome == "stopped"


async def test_an_answer_whose_frames_get_lost_is_completed_from_the_page(
    shared_page: ChatPage, demo: DemoSite
) -> None:
    async with aclosing(shared_page.ask("a", "[[tokens=200]]", "demo-small")) as pieces:
        text = await anext(pieces)
        feed = shared_page._capture.receiver._feed
        assert feed
        feed._next_sequence += 1  # as if one frame had not come
        text += "".join([piece async for piece in pieces])
    check_answer(text, "[[tokens=200]]", last(demo))


async def test_text_that_comes_before_a_contradiction_in_one_frame_is_passed_on(shared_page: ChatPage) -> None:
    """The rest is read from the page, which continues what was passed on."""
    site = shared_page._site
    assert site.capture.network
    assert site.capture.dom
    answer = Answer(tab_of(shared_page).page, Feed(b"0123456789abcdef"), dom_query(site.capture.dom, site))
    answer.read_network(site.capture.network.model_copy(update={"whole": "data.all"}))
    events = ({"type": "token", "text": "a"}, {"all": "b"})
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    answer.feed.put(Frame(FrameKind.OPEN, 1, b'{"status":200}'))
    answer.feed.put(Frame(FrameKind.CHUNK, 1, body.encode()))
    assert [await answer.next(), await answer.next()] == [[], [Text("a")]]
    answer.close()


async def test_without_a_second_way_a_lost_frame_ends_the_answer(shared_pages: Pages, demo: DemoSite) -> None:
    site = demo_file(demo)
    blind = site.model_copy(update={"capture": site.capture.model_copy(update={"dom": None})})
    page = await shared_pages.open(blind, cookie_state(demo))
    async with aclosing(page.ask("a", "[[tokens=2000]]", "demo-small")) as pieces:
        await anext(pieces)
        feed = page._capture.receiver._feed
        assert feed
        feed._next_sequence += 1
        with pytest.raises(CaptureGap) as caught:
            async for _ in pieces:
                pass
    assert caught.value.submitted
    await eventually(lambda: last(demo).outcome == "stopped")


async def test_one_login_in_one_browser(page: ChatPage, pages: Pages, demo: DemoSite) -> None:
    state = json.loads(page._profile.read_text())
    second = pages.make(demo_file(demo), state)
    with pytest.raises(ProfileLocked):
        await second.start()
    await page.close()
    third = await pages.open(demo_file(demo), state)
    assert third.status.ready


async def test_a_stream_port_in_use(pages: Pages, demo: DemoSite) -> None:
    page = pages.make(demo_file(demo), cookie_state(demo))
    with socket.create_server(("127.0.0.1", page._browser.host.port)), pytest.raises(StreamPortTaken):
        await page.start()
    assert not page.status.ready

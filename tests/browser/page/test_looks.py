"""A look by the hook's connection and one by the browser's driver: they see the same, on any page, in each engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

import pytest
from aiohttp import web
from playwright.async_api import Browser
from websockets.asyncio.server import ServerConnection

from browser.capture.capture import Capture
from browser.capture.stream_port import StreamPort
from browser.errors import PageBroken
from browser.page.site_page import SitePage
from browser.page.tab import PageSnapshot, Tab
from browser.settings import EngineName
from browser.site.load import parse_site
from tests.support.ports import free_range
from tests.support.waiting import HANG_LIMIT_S, eventually

SITE = """
name = "looks"
url = "{url}/chat"
login.logged_in = [{{ selector = "#me" }}, {{ url = "*/as/*" }}]
login.logged_out = [{{ selector = "form.login" }}, {{ selector = "#none", url = "*" }}, {{ url = "*out" }}]
readiness.selector = "#input"
fresh_chat.actions = [{{ press = "Escape" }}]
input.selector = "#input"
send.actions = [{{ press = "Enter" }}]
stop.answering = "{answering}"
stop.actions = [{{ press = "Escape" }}]
[upload]
selector = "#files"
done = "#box .done"
[capture.dom]
answer = ".answer > p"
done = ".end"
error = ".error"
[[models]]
name = "one"
"""
PAGE = """<!doctype html><meta charset=utf-8><title>looks</title>
<div id=box><b id=me>me</b><textarea id=input></textarea><input id=files type=file></div><div id=rest></div>"""
MET = PageSnapshot(logged_in=True, logged_out=False, ready=True, answers=0, attached=0, answering=False, error=None)
WITH_FRAME = """() => new Promise((resolve) => {
  const frame = Object.assign(document.createElement("iframe"), { srcdoc: "<button id=halt>stop</button>" });
  frame.onload = () => resolve();
  rest.replaceChildren(frame);
})"""
# Each is done to the page as the one before has left it: what a status can be made of, in all the ways in which an
# element can be there and not be seen.
CHANGES: list[tuple[str, dict[str, object]]] = [
    ("() => {}", {}),
    ("() => { me.hidden = true; }", {"logged_in": False}),
    ("() => { me.hidden = false; me.style.visibility = 'hidden'; }", {"logged_in": False}),
    ("() => { me.style.visibility = ''; box.style.display = 'none'; }", {"logged_in": False, "ready": False}),
    ("() => { box.style.display = 'contents'; }", {"logged_in": True, "ready": True}),
    ("() => { rest.innerHTML = '<form class=login>in</form>'; }", {"logged_out": True}),
    ("() => { rest.firstChild.style.opacity = 0; }", {"logged_out": True}),
    ("() => { rest.innerHTML = '<div class=answer><p hidden>a<p>b</div><p>c'; }", {"logged_out": False, "answers": 2}),
    (
        "() => { rest.innerHTML = '<div class=error> </div><div class=error> no <i>more</i> </div>'; }",
        {"error": "no more"},
    ),
    ("() => { rest.lastChild.textContent = 'x\\ud800' + '🚢'.repeat(1001); }", {}),
    ("() => { rest.innerHTML = '<button id=halt>stop</button>'; }", {"answering": True}),
    ("() => { input.remove(); }", {"ready": False, "answering": True}),
    ("() => { box.insertAdjacentHTML('beforeend', '<i class=done>1</i><i class=done>2</i><i class=done></i>'); }", {}),
    (
        "() => { rest.innerHTML = ''; rest.attachShadow({ mode: 'open' }).innerHTML = '<i id=input>in a root</i>'; }",
        {"ready": True, "answering": False},
    ),
    ("() => { history.pushState(null, '', '/as/ada'); box.remove(); }", {"logged_in": True}),
    ("() => { history.pushState(null, '', '/log#out'); }", {"logged_in": False, "logged_out": True}),
    ("() => { Object.prototype.toJSON = () => ({ logged_in: true, logged_out: false }); }", {"logged_out": True}),
    ("() => { document.documentElement.remove(); }", {"ready": False}),
]
# What the page's own scripts may do to what they can reach, beside what a look by the driver goes through as well.
TAMPER = """() => {
  const forged = { logged_in: true, logged_out: false, ready: true, answers: 0, attached: 0, answering: false };
  window.sent = [];
  JSON.stringify = () => "{}";
  WebSocket.prototype.send = function (data) { window.sent.push(data); };
  Object.defineProperty(MessageEvent.prototype, "data", { get() { window.sent.push(this.target); return ""; } });
  EventTarget.prototype.addEventListener = function (...given) { window.sent.push(this); };
  Object.prototype.toJSON = () => ({ ...forged, error: null });
  for (const name of Object.getOwnPropertyNames(window).filter((name) => /^_[0-9a-f]{16}$/.test(name))) {
    for (const token of ["", undefined, null]) window[name].answerLooks(token, "0".repeat(16), { logged_in: [] });
  }
  me.remove();
}"""


class Served:
    """The page on a server, and what opens it in a browser with a hook."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url
        self.policy = ""

    @asynccontextmanager
    async def open(self, *, answering: str = "#halt") -> AsyncIterator[Tab]:
        """Open the page in a tab of its own, up to where a child's page is usable."""
        site = parse_site(SITE.format(url=self.url, answering=answering), "looks.toml")
        engine: EngineName = "chromium" if self.browser.browser_type.name == "chromium" else "firefox"
        port = free_range(1)
        capture, stream_port = Capture(site, port, engine), StreamPort(port)
        stream_port.add(capture.receiver)
        await stream_port.start()
        opened = await SitePage.in_new_context(self.browser, site, capture=capture)
        try:
            await opened.open_tab()
            await opened.load()
            await opened.test_capture()
            yield opened.tab
        finally:
            await opened.context.close()
            await stream_port.stop()


@pytest.fixture(scope="module")
async def served(each_browser: Browser) -> AsyncIterator[Served]:
    async def show(_: web.Request) -> web.Response:
        policy = {"Content-Security-Policy": opener.policy} if opener.policy else {}
        return web.Response(text=PAGE, content_type="text/html", headers=policy)

    app = web.Application()
    app.add_routes([web.get("/{name:.*}", show)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    opener = Served(each_browser, f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield opener
    await runner.cleanup()


async def by_hook(tab: Tab) -> PageSnapshot:
    """A look that the hook answers, as soon as it does."""

    async def answered() -> PageSnapshot:
        while True:
            await tab.look()
            if found := await tab._ask_hook():
                return PageSnapshot(**found)
            await asyncio.sleep(0.01)

    return await asyncio.wait_for(answered(), HANG_LIMIT_S)


async def by_driver(tab: Tab) -> PageSnapshot:
    return PageSnapshot(**await tab._look_by_handle())


async def test_both_ways_see_the_same_whatever_the_page_shows(served: Served) -> None:
    expected: dict[str, object] = {}
    async with served.open() as tab:
        for change, seen in CHANGES:
            await tab.page.evaluate(change)
            found = await by_hook(tab)
            assert found == await by_driver(tab), change
            assert asdict(found).items() >= seen.items(), change
            expected |= {repr(found): change}
    assert len(expected) > len(CHANGES) / 2  # the sweep went through that many states


async def test_both_ways_look_into_a_frame(served: Served) -> None:
    async with served.open(answering="iframe >>> #halt") as tab:
        assert await by_hook(tab) == MET
        await tab.page.evaluate(WITH_FRAME)
        assert (await by_hook(tab)).answering
        assert await by_hook(tab) == await by_driver(tab)
        await tab.page.evaluate("() => rest.replaceChildren()")
        assert await by_hook(tab) == await by_driver(tab) == MET


async def test_an_idle_page_is_looked_at_past_the_driver_which_confirms_it_now_and_then(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served.open() as tab:
        await by_hook(tab)
        confirmed = []
        look = tab._look_by_handle

        async def counted() -> dict[str, object]:
            confirmed.append(found := await look())
            return found

        monkeypatch.setattr(tab, "_look_by_handle", counted)
        tab._confirmed_at += HANG_LIMIT_S
        assert [await tab.look() for _ in range(20)] == [MET] * 20
        assert not confirmed
        tab._confirmed_at -= 2 * HANG_LIMIT_S
        assert await tab.look() == MET
        assert len(confirmed) == 1


@pytest.mark.parametrize("how", ["goto", "location", "reload"])
async def test_only_the_document_that_shows_is_looked_at(served: Served, how: str) -> None:
    async with served.open() as tab:
        await by_hook(tab)
        await tab.page.evaluate("() => me.remove()")
        assert not (await by_hook(tab)).logged_in
        match how:
            case "goto":
                await tab.load()
            case "reload":
                await tab.page.reload()
            case _:
                async with tab.page.expect_navigation():
                    await tab.page.evaluate("(url) => { location.href = url; }", f"{served.url}/chat?other")
        assert await tab.look() == MET  # at once: the answer is not the former document's
        assert await by_hook(tab) == MET  # and this one's hook answers from then on


async def test_where_the_pages_policy_forbids_the_connection_the_driver_looks(served: Served) -> None:
    served.policy = "connect-src 'self'"
    try:
        async with served.open() as tab:
            for _ in range(3):
                assert await tab.look() == MET
            assert tab._channel is None
            await tab.page.evaluate("() => me.remove()")
            assert await tab.look() == await by_driver(tab)
    finally:
        served.policy = ""


async def test_where_the_connection_is_lost_the_driver_looks_until_there_is_another(served: Served) -> None:
    async with served.open() as tab:
        await by_hook(tab)
        lost = tab._channel
        assert lost
        assert isinstance(lost._connection, ServerConnection)
        await lost._connection.close()
        await eventually(lambda: not lost.is_open)
        assert await tab.look() == MET
        tab._channel_due_at = 0.0
        await by_hook(tab)
        assert tab._channel is not lost


async def test_a_look_at_a_page_that_was_busy_tells_what_it_shows_then(served: Served) -> None:
    """An answer that comes late is not taken for that of a later look."""
    busy = "() => { setTimeout(() => { const end = Date.now() + 1200; while (Date.now() < end); me.remove(); }); }"
    async with served.open() as tab:
        await by_hook(tab)
        await tab.page.evaluate(busy)
        assert not (await tab.look(HANG_LIMIT_S) or MET).logged_in
        await tab.page.evaluate("() => box.insertAdjacentHTML('afterbegin', '<b id=me>me</b>')")
        assert await by_hook(tab) == MET
        for _ in range(3):
            await tab.page.evaluate("() => { me.hidden = !me.hidden; }")
            assert await by_hook(tab) == await by_driver(tab)


async def test_looks_at_the_same_time_get_each_its_answer(served: Served) -> None:
    async with served.open() as tab:
        await by_hook(tab)
        tab._confirmed_at += HANG_LIMIT_S
        assert await asyncio.gather(*(tab.look() for _ in range(20))) == [MET] * 20


async def test_the_pages_own_scripts_neither_forge_an_answer_nor_get_hold_of_the_connection(served: Served) -> None:
    async with served.open() as tab:
        assert await by_hook(tab) == MET
        await tab.page.evaluate(TAMPER)
        found = await by_hook(tab)
        assert not found.logged_in
        assert found == await by_driver(tab)
        assert not await tab.page.evaluate("window.sent.length")


async def test_a_selector_that_the_browser_does_not_know_is_named_as_before(served: Served) -> None:
    async with served.open() as tab:
        await by_hook(tab)
        tab._look_for["error"] = [{"css": "p:unknown", "chains": []}]
        assert tab._capture
        tab._channel = await tab._capture.open_look_channel(tab.page, tab._look_for)
        await eventually(lambda: tab._channel and tab._channel.is_open)
        tab._looker = None
        with pytest.raises(PageBroken, match="p:unknown"):
            await tab.look()

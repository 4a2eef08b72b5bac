"""A page that knows where its answers go, and does its worst while one is written: nothing of it is in the answer."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from playwright.async_api import Page

from browser.capture import capture
from browser.capture.capture import Sink
from browser.page.chat_page import ChatPage
from browser.site.schema import Site
from tests.browser.conftest import Pages, tab_of
from tests.browser.markdown_page import markdown_page
from tests.browser.profiles import no_login
from tests.support.waiting import eventually

# test_stream_port.py attacks the same port without a browser.
pytestmark = pytest.mark.slow

PROMPT = "the answer of the site, held back [[hold]] in the middle, and its end"
# All at once: sockets that say nothing, guess the token, send frames without it, and flood; a forged console; a hook
# that is called by the name that the page can find. Then a page of another origin tries the same.
ATTACK = """async (port) => {
  const frame = new Uint8Array(10000);
  const name = Object.getOwnPropertyNames(window).find((name) => /^_[0-9a-f]{16}$/.test(name)) || "_0";
  frame.set(new TextEncoder().encode("0".repeat(16)));
  frame[24] = 2;
  const outcomes = [...Array(24).keys()].map((number) => new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
    socket.onclose = () => resolve("closed");
    socket.onopen = () => {
      if (number % 4 === 1) socket.send("the-token-of-another-start");
      if (number % 4 === 2) socket.send(frame);
      if (number % 4 === 3) for (let sent = 0; sent < 200; sent++) socket.send(sent ? frame : "x".repeat(10000));
      if (number % 4 === 0) setTimeout(() => socket.close(), 200);
    };
  }));
  for (let said = 0; said < 200; said++) {
    console.debug(`${name} ${btoa(String.fromCharCode(...frame.subarray(0, 60)))}`);
    console.debug(`${name} not base64`);
    console.debug(name);
  }
  return [...new Set(await Promise.all(outcomes))];
}"""


FLOOD = """() => {
  const began = performance.now();
  for (let said = 0; said < 500; said++) for (const name of ["log", "debug", "error"]) console[name]("flood");
  return [began, performance.now()];
}"""


@pytest.mark.parametrize("sink", ["socket", "console"])
async def test_nothing_of_an_attack_reaches_the_answer(
    shared_pages: Pages, monkeypatch: pytest.MonkeyPatch, sink: Sink
) -> None:
    monkeypatch.setattr(capture, "SINKS", (sink,))
    async with markdown_page() as site:
        page = await shared_pages.open(without_dom(site.site()), no_login())
        assert page.status.capture == "network"
        async with aclosing(page.ask("a", PROMPT, "markdown")) as pieces:
            text = await anext(pieces)
            port = page._browser.host.port
            browser = _tab(page).context.browser
            assert browser
            stranger = await browser.new_page()
            await stranger.goto(site.url.replace("127.0.0.1", "localhost"))
            for attacker in (stranger, _tab(page)):
                assert await attacker.evaluate(ATTACK, port) == ["closed"]
            site.held_back.set()
            assert text + "".join([piece async for piece in pieces]) == PROMPT
            await stranger.close()


async def test_a_flood_of_the_console_is_cut_off(shared_pages: Pages) -> None:
    async with markdown_page() as site:
        page = _tab(await shared_pages.open(site.site(), no_login()))
        lines: list[str] = []
        page.on("console", lambda message: lines.append(message.text))
        began, ended = await page.evaluate(FLOOD)
        seconds = (ended - began) // 1000 + 1
        await page.evaluate("new Promise((resolve) => setTimeout(() => { console.warn('later'); resolve(); }, 1100))")
        await eventually(lambda: "later" in lines)
        assert 20 <= lines.count("flood") <= 20 * (seconds + 1)
        assert await page.evaluate(
            "[console.log.name, console.log.length, String(console.log)]"
        ) == await page.evaluate("""["log", 0, String(new Proxy(Math.max, {}))]""")


def without_dom(site: Site) -> Site:
    return site.model_copy(update={"capture": site.capture.model_copy(update={"dom": None})})


def _tab(page: ChatPage) -> Page:
    return tab_of(page).page

"""The browser that a person far away logs in with: what it shows, what it takes, and what is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from aiohttp import web
from playwright.async_api._generated import Screencast

from browser.page import remote_login
from browser.page.remote_input import BadInput, parse_input
from browser.page.remote_login import LARGEST_PICTURE, NOT_YET, RemoteLogin
from browser.settings import BrowserSettings
from browser.site.load import Site, parse_site
from contract.remote_login import LoginPhase
from contract.surroundings import Surroundings, Viewport, write_surroundings
from tests.browser.login_page import SITE
from tests.support.small_site import CHAT
from tests.support.waiting import HANG_LIMIT_S

LOGIN = """[login]
logged_in = [{ selector = "#me" }]
logged_out = [{ selector = "#login" }]
"""
# The login is in a popup. The opener's title tells what the browser says of itself.
OPENER = """<!doctype html><meta charset=utf-8><title></title><body></body><script>
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
document.title = [navigator.language, zone, innerWidth, innerHeight].join(" ");
const isIn = document.cookie.includes("session=");
const button = "<button id=login style='position:fixed;inset:0'>in</button>";
document.body.innerHTML = isIn ? "<p id=me>in</p><p id=prompt>" : button;
if (!isIn) document.getElementById("login").onclick = () => open("/popup", "_blank", "popup");
addEventListener("message", () => location.reload());
</script>"""
POPUP = """<!doctype html><meta charset=utf-8><title>popup</title><textarea id=text autofocus></textarea><script>
const text = document.getElementById("text");
addEventListener("keydown", (event) => { document.title = `${event.key} ${text.value}`; });
text.oninput = () => { document.title = text.value; };
addEventListener("mousemove", () => {
  for (const until = Date.now() + 2000; text.value === "hang" && Date.now() < until;);
});
addEventListener("wheel", (event) => { document.title = `wheel ${event.deltaY}`; });
addEventListener("mouseup", (event) => {
  document.title = `${event.button} ${event.detail} ${event.clientX} ${event.clientY}`;
  if (event.button !== 2) return;
  document.cookie = "session=canary-session-11aa; max-age=86400";
  opener.postMessage("in", "*");
  close();
});
</script>"""


@asynccontextmanager
async def site_with_popup() -> AsyncIterator[Site]:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text=POPUP if request.path == "/popup" else OPENER, content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/{path:.*}", page)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield parse_site(SITE.format(url=url, mode="chat", login=LOGIN, chat=CHAT), "popup.toml")
    finally:
        await runner.cleanup()


@dataclass
class Person:
    """Who looks at the login and acts on it."""

    login: RemoteLogin

    async def act(self, *events: str) -> None:
        """Do what the JSON objects say."""
        await self.login.act(parse_input(f"[{','.join(events)}]".encode()))

    async def sees(self, title: str) -> None:
        """Wait until the page with this title is shown, and a picture of it has come."""
        login = self.login
        found = await login.wait_for(lambda: login.state.title == title, HANG_LIMIT_S)
        assert found, (title, login.state)

    async def finds(self, title: str) -> None:
        """Wait until the page has this title: it changes by a script, of which nobody is told."""
        page = self.login._page
        assert page
        found = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANG_LIMIT_S):
                while found != title:
                    found = await page.title()
        assert found == title

    async def reaches(self, phase: LoginPhase) -> None:
        """Wait until the login is in this phase."""
        assert await self.login.wait_for(lambda: self.login.state.phase is phase, HANG_LIMIT_S), self.login.state


@asynccontextmanager
async def running_login(site: Site, folder: Path, own: Surroundings | None = None) -> AsyncIterator[Person]:
    write_surroundings(folder, own or Surroundings())
    login = RemoteLogin(site, "chromium", BrowserSettings(), folder)
    running = asyncio.create_task(login.run())
    try:
        yield Person(login)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


CLICK = '{"kind":"down","x":100,"y":100},{"kind":"up","x":100,"y":100}'
DOUBLE = '{"kind":"down","x":30,"y":40,"count":2},{"kind":"up","x":30,"y":40,"count":2}'
RIGHT = '{"kind":"down","x":9,"y":9,"button":"right"},{"kind":"up","x":9,"y":9,"button":"right"}'


async def test_all_kinds_of_input_and_a_login_in_a_popup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with site_with_popup() as site, running_login(site, tmp_path) as person:
        login = person.login
        await person.reaches(LoginPhase.OPEN)
        await person.act('{"kind":"size","width":390,"height":700}', CLICK)
        await person.sees("popup")
        assert await login.wait_for(lambda: (login.state.width, login.state.height) == (390, 700), HANG_LIMIT_S)
        for event, title in (
            ('{"kind":"text","text":"\u65e5\u672c a"}', "\u65e5\u672c a"),
            ('{"kind":"key","key":"Backspace"},{"kind":"text","text":"b"}', "\u65e5\u672c b"),
            ('{"kind":"text","text":"one\\ntwo"}', "\u65e5\u672c bone two"),  # a title has no line breaks
            ('{"kind":"key","key":"a","with":["Control"]}', "a \u65e5\u672c bone two"),
            ('{"kind":"text","text":"x"}', "x"),
            ('{"kind":"wheel","x":50,"y":50,"dx":0,"dy":120}', "wheel 120"),
            (f'{{"kind":"move","x":1,"y":1}},{DOUBLE}', "0 2 30 40"),
        ):
            await person.act(event)
            await person.finds(title)
        await person.act('{"kind":"key","key":"a","with":["Control"]},{"kind":"text","text":"hang"}')
        with monkeypatch.context() as hasty:
            hasty.setattr(remote_login, "ACT_TIMEOUT_S", 0.5)
            await person.act(CLICK, '{"kind":"text","text":"lost"}')  # the page has not taken the click
        await person.act('{"kind":"text","text":" on"}')
        await person.finds("hang on")
        await login.done()
        assert login.state.detail == NOT_YET
        seen = login.picture_number
        await person.act(RIGHT)  # the popup logs in and closes
        await person.reaches(LoginPhase.SAVED)
        assert login.picture_number > seen  # of the opener, on which nothing had changed since
        assert login.document
        assert [cookie["value"] for cookie in login.document["cookies"]] == ["canary-session-11aa"]


async def test_the_picture_follows_although_a_start_of_the_screencast_was_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chromium refuses one that meets a navigation to another process, and Playwright returns all the same."""
    start, lost = Screencast.start, set[Screencast]()

    async def lose_first(self: Screencast, **options: Any) -> Any:
        if self in lost:
            return await start(self, **options)
        lost.add(self)
        return None

    monkeypatch.setattr(Screencast, "start", lose_first)
    async with site_with_popup() as site, running_login(site, tmp_path) as person:
        login = person.login
        await person.reaches(LoginPhase.OPEN)
        for width in (390, 500):
            await person.act(f'{{"kind":"size","width":{width},"height":700}}')
            assert await login.wait_for(lambda width=width: login.state.width == width, HANG_LIMIT_S), login.state  # type: ignore[misc]


async def test_it_is_what_the_login_has_of_its_own(tmp_path: Path) -> None:
    own = Surroundings(locale="de-CH", timezone="Asia/Tokyo", viewport=Viewport(width=900, height=600))
    async with site_with_popup() as site, running_login(site, tmp_path, own) as person:
        await person.sees("de-CH Asia/Tokyo 900 600")
        await person.act('{"kind":"size","width":390,"height":700}')  # the size is one's own, too
        assert person.login._page
        assert await person.login._page.evaluate("innerWidth") == 900
        assert LARGEST_PICTURE["width"] >= 900

        os.kill(person.login._process.identity.pid, signal.SIGKILL)
        await person.reaches(LoginPhase.FAILED)
        assert "browser" in (person.login.state.detail or "")


async def test_a_proxy_of_its_own_is_never_passed_by(tmp_path: Path) -> None:
    own = Surroundings(proxy="http://127.0.0.1:9")  # nobody listens there
    site = parse_site(SITE.format(url="http://chat.example", mode="", login=LOGIN, chat=CHAT), "proxied.toml")
    async with running_login(site, tmp_path, own) as person:
        await person.reaches(LoginPhase.FAILED)


SECRET = "canary-hunter2"
BAD = {
    "no JSON": f'[{{"kind": "text", "text": "{SECRET}"',
    "no list": f'{{"kind": "text", "text": "{SECRET}"}}',
    "a kind that is none": f'[{{"kind": "{SECRET}"}}]',
    "a key that is none": f'[{{"kind": "key", "key": "{SECRET}"}}]',
    "a field that is none": f'[{{"kind": "text", "{SECRET}": 1}}]',
    "a text beside another": f'[{{"kind": "text", "text": "a", "more": "{SECRET}"}}]',
    "a place that is none": '[{"kind": "move", "x": -1, "y": 0}]',
    "a place without end": '[{"kind": "move", "x": 1e999, "y": 0}]',
    "a size that is none": '[{"kind": "size", "width": 1, "height": 100000}]',
    "too many": "[" + ",".join(['{"kind":"back"}'] * 501) + "]",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_bad_input_is_refused_without_a_word_of_it(body: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_input(body.encode())
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


async def test_a_fault_that_nobody_foresaw_is_told_to_the_person(tmp_path: Path) -> None:
    """Such as a full disk under what the browser's process notes of itself."""

    async def start() -> NoReturn:
        raise OSError(28, "No space left on device")

    write_surroundings(tmp_path, Surroundings())
    site = parse_site(SITE.format(url="http://chat.example", mode="", login=LOGIN, chat=CHAT), "full.toml")
    login = RemoteLogin(site, "chromium", BrowserSettings(), tmp_path)
    login._process.start = start  # type: ignore[method-assign]
    await login.run()
    assert login.state.phase is LoginPhase.FAILED
    assert login.state.detail == "an error in the program itself; its log has the place"

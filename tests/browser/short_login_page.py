"""A page whose login lasts for so many seconds of the server's own clock, and is refreshed in each way there is.

Each refresh gives a new token, and ends the one before.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from browser.site.load import Site, parse_site
from tests.support.small_site import CHAT, SHUTDOWN_S

LASTS_S = 6.0
COOKIE = "short"

IN = """<!doctype html><meta charset=utf-8><title>in</title><link rel=icon href="data:,"><p id=me>ada</p>
<textarea id=prompt></textarea><button id=new>new</button><button id=go>send</button>
<button id=stay>stay</button><button id=away>away</button><div id=log></div>
<script>
const find = (id) => document.getElementById(id);
find("new").onclick = () => find("log").replaceChildren();
find("stay").onclick = async () => {
  const response = await fetch("/api/renew", { method: "POST" });
  document.body.dataset.stayed = response.status;
};
find("away").onclick = () => { location.href = "/renew"; };
find("go").onclick = async () => {
  const body = find("prompt").value;
  find("prompt").value = "";
  const response = await fetch("/ask", { method: "POST", body });
  if (response.ok) find("log").append(await response.text());
};
</script>"""
OUT = '<!doctype html><title>out</title><link rel=icon href="data:,"><form id=login></form>'
RENEWED = '<!doctype html><title>renewed</title><link rel=icon href="data:,"><p id=renewed>thanks</p>'

SITE = """
name = "short"
url = "{url}/chat"
[login]
logged_in = [{{ selector = "#me" }}]
logged_out = [{{ selector = "#login" }}]
check = {{ url = "/api/me" }}
{refresh}
{chat}[[models]]
name = "short"
"""
REFRESH_LINE = 8


@dataclass
class ShortSite:
    url: str = ""
    now: float = 0.0
    """The server's clock, in seconds; a test moves it."""
    sessions: dict[str, float] = field(default_factory=dict)
    """When each session ends, by its token."""
    renewals: list[str] = field(default_factory=list)
    """The address of each refresh that was asked for, whatever became of it."""
    prompts: list[str] = field(default_factory=list)
    status: int = 200
    """What a refresh is answered with; with another one than 200 it does nothing."""
    rotates: bool = True
    cookie_s: int = 30 * 86_400
    may_renew: asyncio.Event = field(default_factory=asyncio.Event)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def text(self, refresh: str = "") -> str:
        return SITE.format(url=self.url, refresh=refresh, chat=CHAT)

    def file(self, refresh: str = "") -> Site:
        return parse_site(self.text(refresh), "/somewhere/short.toml")

    def state(self, cookie_s: float = 86_400.0) -> dict[str, Any]:
        """A login whose cookie the browser keeps for so many seconds."""
        cookie = {"name": COOKIE, "value": self.open(), "domain": "127.0.0.1", "path": "/", "httpOnly": True}
        return {"cookies": [{**cookie, "expires": time.time() + cookie_s, "secure": False, "sameSite": "Lax"}]}

    def open(self) -> str:
        token = secrets.token_hex(16)
        self.sessions[token] = self.now + LASTS_S
        return token

    def is_in(self, request: web.Request) -> bool:
        return self.sessions.get(request.cookies.get(COOKIE, ""), self.now) > self.now

    async def chat(self, request: web.Request) -> web.Response:
        return web.Response(text=IN if self.is_in(request) else OUT, content_type="text/html")

    async def me(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.is_in(request) else 401)

    async def renew(self, request: web.Request) -> web.Response:
        self.renewals.append(request.path)
        await self.may_renew.wait()
        if not self.is_in(request):
            return web.Response(status=401, text=OUT, content_type="text/html")
        if self.status != 200:
            return web.Response(status=self.status, text="no")
        response = web.Response(text=RENEWED, content_type="text/html")
        if self.rotates:
            del self.sessions[request.cookies[COOKIE]]
            response.set_cookie(COOKIE, self.open(), max_age=self.cookie_s, httponly=True, samesite="Lax")
        return response

    async def ask(self, request: web.Request) -> web.Response:
        prompt = await request.text()
        if not self.is_in(request):
            return web.Response(status=401)
        self.prompts.append(prompt)
        await self.may_answer.wait()
        return web.Response(text=json.dumps({"text": f"heard {prompt}"}) + '\n{"end": true}\n')


@asynccontextmanager
async def short_site() -> AsyncIterator[ShortSite]:
    site = ShortSite()
    site.may_renew.set()
    site.may_answer.set()
    app = web.Application()
    app.add_routes(
        [
            web.get("/chat", site.chat),
            web.get("/api/me", site.me),
            web.get("/renew", site.renew),
            web.route("*", "/api/renew", site.renew),
            web.post("/ask", site.ask),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()

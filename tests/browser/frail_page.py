"""A page whose parts can be made to fail one by one: its document, its login check, its socket, its prompts.

Prompts go by POST, and their answers come over a WebSocket.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from browser.site.load import Site, parse_site
from tests.support.small_site import SHUTDOWN_S

PAGE = """<!doctype html><meta charset=utf-8><title>frail</title>
<div id=me>ann</div><textarea id=prompt></textarea><button id=new>new</button><button id=go>send</button>
<div id=log></div>
<script>
const find = (id) => document.getElementById(id);
let socket;
function connect() {
  socket = new WebSocket(location.origin.replace("http", "ws") + "/socket");
  socket.onclose = () => setTimeout(connect, 200);
  socket.onmessage = ({ data }) => find("log").append(data);
}
if (location.search.includes("socket")) connect();
find("new").onclick = () => find("log").replaceChildren();
find("go").onclick = () => {
  const body = find("prompt").value;
  find("prompt").value = "";
  if (body.includes("[abort]")) {
    const controller = new AbortController();
    fetch("/ask", { method: "POST", body, signal: controller.signal }).catch(() => {});
    socket.addEventListener("message", () => controller.abort(), { once: true });
  } else fetch("/ask", { method: "POST", body }).catch(() => {});
};
</script>"""

SITE = """
name = "frail"
url = "{url}/?socket"
[login]
logged_in = [{{ selector = "#me" }}]
check = {{ url = "/check", expired_status = [401] }}
[fresh_chat]
actions = [{{ click = "#new" }}]
[input]
selector = "#prompt"
[send]
actions = [{{ click = "#go" }}]
request = {{ url = "*/ask" }}
[capture.network]
kind = "websocket"
url = "*/socket"
text = "data.text"
end = "data.end"
[[models]]
name = "frail"
"""


@dataclass
class FrailSite:
    url: str = ""
    page_status: int = 200
    check_status: int = 200
    takes_sockets: bool = True
    loads: int = 0
    checks: int = 0
    sockets: set[web.WebSocketResponse] = field(default_factory=set)
    cookie: str | None = None
    ask_status: int = 204
    ask_text: str = ""
    drops_prompts: bool = False
    prompts: list[str] = field(default_factory=list)

    def text(self) -> str:
        return SITE.format(url=self.url)

    def file(self) -> Site:
        return parse_site(self.text(), "frail.toml")

    def state(self) -> dict[str, Any]:
        stored = [{"name": "key", "value": "open sesame"}]
        return {"cookies": [], "origins": [{"origin": self.url, "localStorage": stored}]}

    async def show(self, _: web.Request) -> web.Response:
        self.loads += 1
        return web.Response(text=PAGE, content_type="text/html", status=self.page_status)

    async def check(self, _: web.Request) -> web.Response:
        self.checks += 1
        response = web.Response(status=self.check_status)
        if self.cookie:
            response.set_cookie("session", self.cookie, max_age=1000)
        return response

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        if not self.takes_sockets:
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.add(socket)
        async for _ in socket:
            pass
        self.sockets.discard(socket)
        return socket

    async def drop_sockets(self) -> None:
        self.takes_sockets = False
        for socket in [*self.sockets]:
            await socket.close()

    async def ask(self, request: web.Request) -> web.Response:
        prompt = await request.text()
        self.prompts.append(prompt)
        if self.drops_prompts:
            assert request.transport
            request.transport.close()
        elif self.ask_status < 400:
            for socket in self.sockets:
                await socket.send_str(json.dumps({"text": f"you said {prompt}"}))
                await socket.send_str(json.dumps({"end": True}))
        return web.Response(status=self.ask_status, text=self.ask_text)


@asynccontextmanager
async def frail_site() -> AsyncIterator[FrailSite]:
    """Serve the page while the context lasts."""
    site = FrailSite()
    app = web.Application()
    app.add_routes([web.get("/", site.show), web.get("/check", site.check)])
    app.add_routes([web.get("/socket", site.socket), web.post("/ask", site.ask)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield site
    finally:
        await runner.cleanup()

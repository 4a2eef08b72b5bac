"""A page with a login in memory, in a cookie or in IndexedDB, or with none at all; its server counts the logins.

Without a login its answers can come in binary frames.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from browser.site.load import Site, parse_site
from tests.support.small_site import CHAT, SHUTDOWN_S

USER, PASSWORD = "canary-user-4410", "canary-{model}-password-7d1e"
LOGIN = {"user": USER, "password": PASSWORD}
NOTHING: dict[str, Any] = {"cookies": [], "origins": []}

PAGE = """<!doctype html><meta charset=utf-8><title>login page</title>
<form id=login hidden><input id=user><input id=password type=text><button id=enter>log in</button><p id=why></p></form>
<main id=chat hidden><p id=me></p><textarea id=prompt></textarea><button id=new type=button>new</button>
<button id=go type=button>send</button><div id=log></div></main>
<script>
const mode = location.pathname.slice(1);
const find = (id) => document.getElementById(id);
const asked = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = reject;
});
async function store(work) {
  const opening = indexedDB.open("auth", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("kept");
  const database = await asked(opening);
  return asked(work(database.transaction("kept", "readwrite").objectStore("kept")));
}
let token = null;
function show() {
  find("login").hidden = mode === "none" || Boolean(token);
  find("chat").hidden = mode !== "none" && !token;
}
async function enter(value) {
  token = value;
  if (mode === "database") await store((kept) => kept.put(value, "token"));
  show();
}
find("login").onsubmit = async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ user: find("user").value, password: find("password").value });
  const response = await fetch("/login" + location.search, { method: "POST", body });
  if (!response.ok) { find("why").textContent = "wrong user or password"; return; }
  await enter(await response.text());
};
// As pages do that look up a user's way to log in: what is typed is in an address.
find("user").oninput = () => fetch(`/check?user=${find("user").value}`, { headers: { authorization: "" } });
find("new").onclick = () => find("log").replaceChildren();
const socket = mode === "none" && new WebSocket(location.origin.replace("http", "ws") + "/socket");
find("go").onclick = async () => {
  const body = find("prompt").value;
  find("prompt").value = "";
  if (location.search === "?msgpack") { socket.send(body); return; }
  const response = await fetch("/ask", { method: "POST", body, headers: { authorization: token ?? "" } });
  if (response.status === 401 && mode !== "none") { token = null; show(); return; }
  find("log").append(await response.text());
};
(async () => {
  if (mode === "cookie") token = document.cookie.match(/session=(\\w+)/)?.[1] ?? null;
  if (mode === "database") token = await store((kept) => kept.get("token")) ?? null;
  if (token && !(await fetch("/check", { headers: { authorization: token } })).ok) token = null;
  show();
})();
</script>"""

SITE = """
name = "memory"
url = "{url}/{mode}"
{login}
{chat}[[models]]
name = "memory"
"""
BY_STEPS = """
[login]
logged_in = [{ selector = "#me" }, { selector = "#prompt" }]
logged_out = [{ selector = "#login" }]
lost = [{ url = "*/ask", status = [401] }]
steps = [
  { fill = "#user", value = "{secret:user}" },
  { fill = "#password", value = "{secret:password}" },
  { click = "#enter" },
]
"""
WITHOUT = "[login]\nnone = true\n"


@dataclass
class LoginSite:
    url: str = ""
    tokens: set[str] = field(default_factory=set)
    logins: list[bool] = field(default_factory=list)
    """Whether each login was taken."""
    prompts: list[str] = field(default_factory=list)
    takes_logins: bool = True

    def text(self, mode: str, login: str = BY_STEPS) -> str:
        return SITE.format(url=self.url, mode=mode, login=login, chat=CHAT)

    def file(self, mode: str, login: str = BY_STEPS) -> Site:
        return parse_site(self.text(mode, login), "memory.toml")

    async def show(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def log_in(self, request: web.Request) -> web.Response:
        self.logins.append(self.takes_logins and json.loads(await request.read()) == LOGIN)
        if not self.logins[-1]:
            return web.Response(status=403)
        token = secrets.token_hex(16)
        self.tokens.add(token)
        response = web.Response(text=token)
        if request.headers["referer"].endswith("/cookie"):
            response.set_cookie("session", token, max_age=1000)
        return response

    async def check(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.headers["authorization"] in self.tokens else 401)

    async def ask(self, request: web.Request) -> web.Response:
        token, prompt = request.headers["authorization"], await request.text()
        if token and token not in self.tokens:
            return web.Response(status=401)
        self.prompts.append(prompt)
        return web.Response(text=json.dumps({"text": f"heard {prompt}"}) + '\n{"end": true}\n')

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        """Answer each prompt in frames of MessagePack, among a text frame and one that holds no text."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str("2")
            for part in ({"id": b"\x00\xff"}, {"text": "heard "}, {"text": message.data}, {"end": True}):
                await socket.send_bytes(msgspec.msgpack.encode(part))
        return socket


@asynccontextmanager
async def login_site() -> AsyncIterator[LoginSite]:
    site = LoginSite()
    app = web.Application()
    app.add_routes(
        [
            web.post("/login", site.log_in),
            web.get("/check", site.check),
            web.post("/ask", site.ask),
            web.get("/socket", site.socket),
            web.get("/{mode}", site.show),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()

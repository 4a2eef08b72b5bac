"""A chat page that tries, again and again, all ways out to the network that a page has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext

from aiohttp import web

NAME = "page.test"
STUN = "198.51.100.7"
"""An address at which nobody is."""

CHECK_PROMPT = "is it all there?"

_PAGE = """<!doctype html><meta charset=utf-8><title>restless</title>
<link rel=icon href=/icon.png>
<link rel=preconnect href=https://preconnect.test>
<link rel=dns-prefetch href=https://prefetch.test>
<textarea id=prompt></textarea><button id=new>new</button><button id=go>send</button><div id=log></div>
<iframe name=sink hidden></iframe>
<form id=form method=post action=/form target=sink hidden><input name=a value=b></form>
<script>
const find = (id) => document.getElementById(id);
find("new").onclick = () => find("log").replaceChildren();
find("go").onclick = async () => {
  const response = await fetch("/ask", { method: "POST", body: find("prompt").value });
  find("log").append(await response.text());
};
let turn = 0;
const ways = {
  fetch: () => fetch("/fetch?" + turn).catch(() => {}),
  names: () => fetch(`https://name${turn}.test/`, { mode: "no-cors" }).catch(() => {}),
  loopback: () => fetch("http://127.0.0.1:LOOPBACK/", { mode: "no-cors" }).catch(() => {}),
  image: () => { new Image().src = `https://ADDRESS/image?${turn}`; },
  beacon: () => navigator.sendBeacon("/beacon", "b"),
  form: () => find("form").submit(),
  socket: () => {
    const socket = new WebSocket(`wss://${location.host}/socket`);
    socket.onopen = () => socket.close();
  },
  events: () => {
    const source = new EventSource("/events");
    source.onmessage = source.onerror = () => source.close();
  },
  worker: () => navigator.serviceWorker.register("/worker.js").then((it) => it.update()).catch(() => {}),
  hint: () => {
    const link = document.createElement("link");
    Object.assign(link, { rel: turn % 2 ? "prefetch" : "dns-prefetch", href: `https://hint${turn}.test/` });
    document.head.append(link);
  },
  call: async () => {
    const call = new RTCPeerConnection({ iceServers: [
      { urls: "stun:STUN:3478" },
      { urls: ["turn:STUN:3478?transport=udp", "turn:STUN:3478?transport=tcp"], username: "a", credential: "b" },
    ] });
    call.onicecandidate = ({ candidate }) => candidate && fetch("/candidate?" + candidate.candidate).catch(() => {});
    call.createDataChannel("way out");
    await call.setLocalDescription(await call.createOffer());
    setTimeout(() => call.close(), 1500);
  },
};
setInterval(() => {
  turn += 1;
  for (const way of Object.values(ways)) try { Promise.resolve(way()).catch(() => {}); } catch { }
}, 1000);
</script>"""
_WORKER = 'self.onactivate = () => { setInterval(() => fetch("/from-worker").catch(() => {}), 1000); };'
_SITE = f"""
name = "restless"
url = "https://{NAME}/"
[login]
none = true
[fresh_chat]
actions = [{{ click = "#new" }}]
[input]
selector = "#prompt"
[send]
actions = [{{ click = "#go" }}]
[capture.network]
kind = "sse"
url = "*/ask"
method = "POST"
text = "data.text"
end = "data.end"
[check]
prompt = "{CHECK_PROMPT}"
[[models]]
name = "restless"
"""


@dataclass
class RestlessSite:
    """What has come: how often each path, from which addresses, and what WebRTC has told the page of its own."""

    paths: Counter[str] = field(default_factory=Counter)
    peers: Counter[str] = field(default_factory=Counter)
    candidates: set[str] = field(default_factory=set)
    prompts: list[str] = field(default_factory=list)


def write_site_file(folder: Path) -> Path:
    """Write the site file, and return its path."""
    path = folder / "restless.toml"
    path.write_text(_SITE)
    return path


@asynccontextmanager
async def serve(address: str, tls: SSLContext, loopback_port: int) -> AsyncIterator[RestlessSite]:
    """Serve the page at https://ADDRESS/. It also tries a port of its browser's loopback."""
    seen = RestlessSite()

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.paths[request.path] += 1
        seen.peers[request.remote or ""] += 1
        if request.path == "/candidate":
            seen.candidates.add(request.query_string)
        if request.path == "/ask":
            seen.prompts.append(await request.text())
            said = json.dumps({"text": seen.prompts[-1].upper()})
            return web.Response(text=f'data: {said}\n\ndata: {{"end":true}}\n\n', content_type="text/event-stream")
        if request.path == "/events":
            return web.Response(text="data: 1\n\n", content_type="text/event-stream")
        if request.path == "/socket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for _ in socket:
                pass
            return socket
        if request.path == "/worker.js":
            return web.Response(text=_WORKER, content_type="text/javascript")
        if request.path == "/":
            page = _PAGE.replace("ADDRESS", address).replace("STUN", STUN).replace("LOOPBACK", str(loopback_port))
            return web.Response(text=page, content_type="text/html")
        return web.Response(text="")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, address, 443, ssl_context=tls).start()
    try:
        yield seen
    finally:
        await runner.cleanup()

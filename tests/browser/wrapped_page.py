"""A chat page made of nested web components, each in an open shadow root; and the same page in a frame, without roots.

Answers come by fetch, XMLHttpRequest, EventSource or WebSocket, as the prompt's first word says. It takes images.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from aiohttp import web

from browser.site.load import Site, parse_site
from tests.support.small_site import SHUTDOWN_S

Wrapping = Literal["plain", "shadow", "frame"]
WORDS = ["Grüße ", "東京 ", "👩‍🚀 ", "end\n"]

OUTER = """<!doctype html><meta charset=utf-8><title>outer</title><h1>around it</h1>
<div style="height: 40px"></div><iframe class=chat src="/?wrapping=plain" width=700 height=400></iframe>"""

PAGE = """<!doctype html><meta charset=utf-8><title>wrapped</title><body><script>
const isShadow = new URLSearchParams(location.search).get("wrapping") === "shadow";
const part = (name, html) => customElements.define(name, class extends HTMLElement {
  connectedCallback() {
    this.inner = isShadow ? this.shadowRoot || this.attachShadow({ mode: "open" }) : this;
    if (!this.inner.firstChild) this.inner.innerHTML = html;
    for (const element of this.inner.querySelectorAll("[id]")) find[element.id] = element;
  }
});
const find = {};
part("chat-app", `<div class=app><b id=me>ada</b><button id=new>new</button><chat-log id=log></chat-log>
  <chat-box id=form></chat-box></div>`);
part("chat-log", `<style>.body { color: navy }</style><div id=list></div>`);
part("chat-message", `<style>.body { color: navy }</style><div class=thought></div><div class=body></div>`);
part("chat-box", `<textarea id=box></textarea>
  <div id=editor contenteditable style="white-space: pre-wrap; min-height: 1em"></div>
  <select id=model><option value=small>S</option><option value=large>L</option></select><input id=title>
  <input type=file id=files multiple><span id=thumbs></span>
  <button id=go>send</button><button id=halt hidden>stop</button><p id=alert></p>
  <div id=tour>tour <i id=close>x</i></div>`);
document.body.append(document.createElement("chat-app"));

let message;
const show = (text) => message.inner.querySelector(".body").append(text);
const finish = () => { message.dataset.state = "done"; find.halt.hidden = true; };
const take = (line) => {
  const data = JSON.parse(line);
  if (data.thought) message.inner.querySelector(".thought").append(data.thought);
  if (data.error) { find.alert.textContent = data.error; find.halt.hidden = true; }
  if (data.text) show(data.text);
  if (data.end) finish();
};
const ways = {
  async fetch(url) {
    const controller = new AbortController();
    find.halt.onclick = () => { controller.abort(); finish(); };
    const response = await fetch(url, { method: "POST", signal: controller.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\\n");
      rest = lines.pop();
      lines.forEach(take);
    }
  },
  xhr(url) {
    const xhr = new XMLHttpRequest();
    let at = 0;
    xhr.open("POST", url);
    xhr.onprogress = () => {
      const lines = xhr.responseText.slice(at).split("\\n");
      at = xhr.responseText.length - lines.pop().length;
      lines.forEach(take);
    };
    xhr.send();
    find.halt.onclick = () => { xhr.abort(); finish(); };
  },
  eventsource(url) {
    const source = new EventSource(url);
    source.onmessage = (event) => { take(event.data); if (JSON.parse(event.data).end) source.close(); };
    find.halt.onclick = () => { source.close(); finish(); };
  },
  websocket(url) {
    const socket = new WebSocket(url);
    socket.onmessage = (event) => take(event.data);
    find.halt.onclick = () => { socket.close(); finish(); };
  },
};
find.go.onclick = () => {
  const prompt = find.box.value || find.editor.innerText;
  find.box.value = "";
  find.editor.replaceChildren();
  for (const [role, text] of [["user", prompt], ["assistant", ""]]) {
    message = document.createElement("chat-message");
    message.dataset.role = role;
    find.list.append(message);
    show(text);
  }
  find.halt.hidden = false;
  ways[prompt.split(" ")[0]]("/answer?prompt=" + encodeURIComponent(prompt));
};
find.new.onclick = () => { find.list.replaceChildren(); find.thumbs.replaceChildren(); find.alert.textContent = ""; };
document.addEventListener("paste", (event) => {
  if (event.composedPath()[0] !== find.editor) return;
  event.preventDefault();
  find.editor.replaceChildren(event.clipboardData.getData("text/plain"));
});
find.close.onclick = () => find.tour.remove();
find.files.onchange = () => {
  for (const file of find.files.files) find.thumbs.append(document.createElement("u"), file.name);
  for (const thumb of find.thumbs.querySelectorAll("u")) thumb.textContent = "image";
};
</script>"""

SITE = """
name = "wrapped"
url = "{url}/?wrapping={wrapping}"
[login]
logged_in = [{{ selector = "{at}.app #me" }}]
[fresh_chat]
actions = [{{ click = "{at}chat-app #new" }}]
[input]
selector = "{at}chat-box > #box"
[upload]
selector = "{at}chat-box input[type=file]"
done = "{at}chat-box #thumbs u"
[send]
actions = [{{ click = "{at}text=send" }}]
[stop]
answering = "{at}chat-box #halt"
actions = [{{ click = "{at}.app #halt" }}]
[capture.network]
kind = "{kind}"
url = "*/answer*"
text = "data.text"
reasoning = "data.thought"
end = "data.end"
error = "data.error"
[capture.dom]
answer = "{at}chat-log chat-message[data-role=assistant] .body"
reasoning = "{at}chat-message[data-role=assistant] > .thought"
done = "{at}.app chat-message[data-state=done]"
error = "{at}#alert"
[[models]]
name = "wrapped"
"""


def answer_to(prompt: str) -> str:
    return f"{prompt}: {''.join(WORDS)}"


@dataclass
class WrappedPage:
    url: str
    prompts: list[str] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def address(self, wrapping: Wrapping) -> str:
        return f"{self.url}/?wrapping={wrapping}"

    def site(self, wrapping: Wrapping, kind: str = "jsonl", *, read: str = "both") -> Site:
        """Return the site file; `read` names one table of capture if the other is to be left out."""
        text = SITE.format(url=self.url, wrapping=wrapping, kind=kind, at=at(wrapping))
        if read == "network":
            text = text[: text.index("[capture.dom]")] + text[text.index("[[models]]") :]
        if read == "dom":
            text = text[: text.index("[capture.network]")] + text[text.index("[capture.dom]") :]
        return parse_site(text, "wrapped.toml")


def at(wrapping: Wrapping) -> str:
    """Return what stands before each selector."""
    return "iframe.chat >>> " if wrapping == "frame" else ""


@asynccontextmanager
async def wrapped_page() -> AsyncIterator[WrappedPage]:
    page = WrappedPage("")

    async def show(request: web.Request) -> web.Response:
        is_frame = request.query.get("wrapping") == "frame"
        return web.Response(text=OUTER if is_frame else PAGE, content_type="text/html")

    async def answer(request: web.Request) -> web.StreamResponse:
        prompt = request.query["prompt"]
        page.prompts.append(prompt)
        if prompt.startswith("websocket"):
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for event in _events(prompt):
                await socket.send_str(event)
            await socket.receive()
            return socket
        is_sse = prompt.startswith("eventsource")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream" if is_sse else "text/plain"})
        await response.prepare(request)
        try:
            async for event in _events(prompt):
                await response.write(f"data: {event}\n\n".encode() if is_sse else f"{event}\n".encode())
        except (ConnectionError, asyncio.CancelledError):
            page.left.set()
            raise
        return response

    app = web.Application()
    app.add_routes([web.get("/", show), web.get("/answer", answer), web.post("/answer", answer)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    page.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield page
    await runner.cleanup()


async def _events(prompt: str) -> AsyncIterator[str]:
    if "refuse" in prompt:
        yield json.dumps({"error": "not today"})
        return
    for data in [{"thought": "hm"}, *({"text": word} for word in [f"{prompt}: ", *WORDS])]:
        yield json.dumps(data)
        await asyncio.sleep(0.005)
    while "endless" in prompt:
        yield json.dumps({"text": "more "})
        await asyncio.sleep(0.005)
    yield json.dumps({"end": True})

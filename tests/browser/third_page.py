"""A third chat page, for what the others do not do.

A contenteditable editor, a login in localStorage, and answers over EventSource, XMLHttpRequest, a worker, a
fetch whose body the page reads and lets go of itself, or one that it aborts as soon as it has the end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from browser.site.load import Site, parse_site
from tests.support.small_site import SHUTDOWN_S

PAGE = """<!doctype html><meta charset=utf-8><title>third</title>
<div id=login hidden>log in</div>
<div id=app hidden>
  <button id=new>new</button>
  <div id=log></div>
  <div id=editor contenteditable style="white-space: pre-wrap; min-height: 1em"></div>
  <button id=go>send</button><button id=halt hidden>stop</button>
</div>
<script>
const find = (id) => document.getElementById(id);
const way = new URLSearchParams(location.search).get("way");
find(localStorage.getItem("key") === "open sesame" ? "app" : "login").hidden = false;
let answer;
window.stolen = [];
if (location.search.includes("thief")) {
  const keep = (values) => { for (const value of values) window.stolen.push(String(value)); };
  const { apply } = Reflect;
  const spoil = (object, name) => {
    const native = object[name];
    object[name] = function (...values) { keep(values); return apply(native, this, values); };
  };
  spoil(WebSocket.prototype, "send");
  spoil(EventTarget.prototype, "addEventListener");
  spoil(JSON, "stringify");
  spoil(TextEncoder.prototype, "encode");
  spoil(Reflect, "apply");
}
window.received = [];
function show(text) { window.received.push(text); answer.append(text); }
function finish() { answer.dataset.state = "done"; find("halt").hidden = true; }
function take(line) { const data = JSON.parse(line); if (data.end) finish(); else show(data.text); }
const ways = {
  eventsource(url) {
    const source = new EventSource(url + "&sse=1");
    source.addEventListener("word", (event) => take(event.data));
    source.addEventListener("over", () => { source.close(); finish(); });
    find("halt").onclick = () => { source.close(); finish(); };
  },
  xhr(url) {
    const xhr = new XMLHttpRequest();
    let at = 0;
    xhr.open("GET", url);
    xhr.onprogress = () => {
      const lines = xhr.responseText.slice(at).split("\\n");
      at = xhr.responseText.length - lines.pop().length;
      lines.forEach(take);
    };
    xhr.send();
    find("halt").onclick = () => { xhr.abort(); finish(); };
  },
  async reader(url) {
    const response = await fetch(new Request(url));
    const reader = response.body.getReader();
    find("halt").onclick = () => { reader.cancel(); finish(); };
    let rest = "";
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\\n");
      rest = lines.pop();
      lines.forEach(take);
    }
  },
  async aborter(url) {
    const controller = new AbortController();
    const response = await fetch(url, { signal: controller.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const lines = (rest + (await reader.read()).value).split("\\n");
      rest = lines.pop();
      for (const line of lines) {
        take(line);
        if (JSON.parse(line).end) return controller.abort();
      }
    }
  },
  worker(url) {
    const code = `fetch("${location.origin}${url}").then(async (response) => {
      const text = await response.text();
      text.trim().split("\\\\n").forEach((line) => postMessage(line));
    })`;
    const worker = new Worker(URL.createObjectURL(new Blob([code])));
    worker.onmessage = (event) => take(event.data);
  },
};
find("go").onclick = () => {
  const prompt = find("editor").innerText;
  find("editor").replaceChildren();
  answer = document.createElement("p");
  answer.className = "answer";
  find("log").append(answer);
  find("halt").hidden = false;
  ways[way]("/answer?prompt=" + encodeURIComponent(prompt));
};
find("new").onclick = () => find("log").replaceChildren();
</script>"""

SITE = """
name = "third"
url = "{url}/?way={way}"
[login]
logged_in = [{{ selector = "#app" }}]
logged_out = [{{ selector = "#login" }}]
[fresh_chat]
actions = [{{ click = "#new" }}]
[input]
selector = "#editor"
methods = ["insert_text"]
[send]
actions = [{{ click = "text=send" }}]
[stop]
answering = "#halt"
actions = [{{ click = "#halt" }}]
[capture.network]
kind = "{kind}"
url = "*/answer*"
{names}
text = "data.text"
end = "event == 'over' || data.end"
[capture.dom]
answer = ".answer"
done = ".answer[data-state=done]"
[[models]]
name = "third"
"""


KINDS = {
    "eventsource": {"kind": "sse", "names": 'event_names = ["word", "over"]'},
    "jsonl": {"kind": "jsonl", "names": ""},
}


@dataclass
class ThirdPage:
    url: str
    prompts: list[str] = field(default_factory=list)
    loads: int = 0
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def site(self, way: str, *, dom: bool = True) -> Site:
        text = SITE.format(url=self.url, way=way, **KINDS["eventsource" if way == "eventsource" else "jsonl"])
        if not dom:
            text = text[: text.index("[capture.dom]")] + text[text.index("[[models]]") :]
        return parse_site(text, "third.toml")

    def state(self, key: str = "open sesame") -> dict[str, Any]:
        stored = [{"name": "key", "value": key}]
        return {"cookies": [], "origins": [{"origin": self.url, "localStorage": stored}]}


WORDS = ["Grüße ", "東京 ", "👩‍🚀 ", "end\n"]


def answer_to(prompt: str) -> str:
    return f"{prompt}: {''.join(WORDS)}"


@asynccontextmanager
async def third_page() -> AsyncIterator[ThirdPage]:
    page = ThirdPage("")

    async def show(_: web.Request) -> web.Response:
        page.loads += 1
        return web.Response(text=PAGE, content_type="text/html")

    async def answer(request: web.Request) -> web.StreamResponse:
        prompt = request.query["prompt"]
        page.prompts.append(prompt)
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream" if "sse" in request.query else "text/plain"}
        )
        await response.prepare(request)
        try:
            if "burst" in prompt:
                await _burst(response, prompt)
            for word in [f"{prompt}: ", *WORDS]:
                await _write(response, request, {"text": word})
            while "endless" in prompt:
                await _write(response, request, {"text": "more "})
            await _write(response, request, {"end": True})
        except (ConnectionError, asyncio.CancelledError):
            page.left.set()
            raise
        return response

    app = web.Application()
    app.add_routes([web.get("/", show), web.get("/answer", answer)])
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    page.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield page
    await runner.cleanup()


async def _burst(response: web.StreamResponse, prompt: str) -> None:
    """Write the whole answer at once, and keep the connection until the page lets go of it."""
    lines = [{"text": word} for word in [f"{prompt}: ", *WORDS]]
    for line in [*lines, {"end": True}]:
        await response.write(json.dumps(line).encode() + b"\n")
    await asyncio.Event().wait()


async def _write(response: web.StreamResponse, request: web.Request, data: dict[str, Any]) -> None:
    text = json.dumps(data, ensure_ascii=False) + "\n"
    if "sse" in request.query:
        text = f"event: {'over' if 'end' in data else 'word'}\ndata: {text}\n"
    body = text.encode()
    middle = len(body) // 2
    await response.write(body[:middle])
    await asyncio.sleep(0.005)
    await response.write(body[middle:])

"""A chat page that lays its answers' Markdown out anew with each token, as most do. The prompt is the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from markdown_it import MarkdownIt

from browser.site.load import Site, parse_site

PIECE = 12
RENDER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).render

PAGE = """<!doctype html><meta charset=utf-8><title>markdown</title>
<style>.bold { font-weight: bold }</style>
<button id=new>new</button><div id=log></div><textarea id=input></textarea><button id=go>send</button>
<script>
const find = (id) => document.getElementById(id);
const twist = new URLSearchParams(location.search).get("twist");
find("new").onclick = () => find("log").replaceChildren();
find("go").onclick = async () => {
  const answer = document.createElement("div");
  answer.className = "answer";
  find("log").append(answer);
  // What two real apps do until an answer is complete: a block that is drawn late has a skeleton in its place, or what
  // follows a character of two UTF-16 units is wrong.
  const drawn = (html) =>
    twist === "late" ? html.replace(/<pre>[^]*?<\\/pre>/g, "<div class=skeleton>&nbsp;</div>")
    : twist === "units" ? html.replace(/[\\ud800-\\udbff][^]*/, "\\ud83d and <b>what is wrong")
    : html;
  const response = await fetch("/answer", { method: "POST", body: find("input").value });
  find("input").value = "";
  let rest = "", last = "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\\n");
    rest = lines.pop();
    for (const line of lines) {
      const { html, text } = JSON.parse(line);
      if (twist === "bare") answer.textContent += text;
      else answer.innerHTML = `<div class=body>${drawn(html)}<button>Copy</button></div>`;
      last = html;
    }
  }
  if (twist === "late" || twist === "units") answer.innerHTML = last;
  if (twist === "other") answer.querySelector(".body").innerHTML = "<p>Something else.</p>";
  if (twist === "bare") answer.textContent += " (and more)";
  answer.dataset.state = "done";
};
</script>"""

SITE = """
name = "markdown"
url = "{url}/?twist={twist}"
login.logged_in = [{{ selector = "#input" }}]
fresh_chat.actions = [{{ click = "#new" }}]
input.selector = "#input"
send.actions = [{{ click = "#go" }}]
[capture]
verify = {verify}
[capture.network]
kind = "jsonl"
url = "*/answer"
text = "data.text"
[capture.dom]
answer = ".answer"
done = ".answer[data-state=done]"
read = "{read}"
ignore = ".tools"
{more}
[[models]]
name = "markdown"
"""


def _drawn(html: str) -> str:
    """Draw what is bold by the style sheet, as some pages do."""
    return html.replace("<strong>", "<span class=bold>").replace("</strong>", "</span>")


@dataclass
class MarkdownPage:
    url: str
    held_back: asyncio.Event = field(default_factory=asyncio.Event)

    def site(
        self, *, network: bool = True, verify: bool = False, twist: str = "", read: str = "markdown", more: str = ""
    ) -> Site:
        text = SITE.format(url=self.url, twist=twist, read=read, verify=str(verify).lower(), more=more)
        if not network:
            text = text[: text.index("[capture.network]")] + text[text.index("[capture.dom]") :]
        return parse_site(text, "markdown.toml")


@asynccontextmanager
async def markdown_page() -> AsyncIterator[MarkdownPage]:
    page = MarkdownPage("")

    async def show(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def answer(request: web.Request) -> web.StreamResponse:
        text = await request.text()
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for end in range(PIECE, len(text) + PIECE, PIECE):
            if "[[hold]]" in text[:end] and not page.held_back.is_set():
                await page.held_back.wait()
            line = {"text": text[end - PIECE : end], "html": _drawn(RENDER(text[:end]))}
            await response.write(json.dumps(line).encode() + b"\n")
            await asyncio.sleep(0)
        return response

    app = web.Application()
    app.add_routes([web.get("/", show), web.post("/answer", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    page.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield page
    await runner.cleanup()

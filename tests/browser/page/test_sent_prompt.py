"""A page that sends another prompt than its input held: found in its request, of whatever form, or in its bubble."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from browser.errors import PromptChanged
from browser.site.load import Site, parse_site
from tests.browser.asking import ask
from tests.browser.conftest import Pages
from tests.support.waiting import HANG_LIMIT_S, eventually

# An editor as some are: it drops the tab that a line begins with.
PAGE = """<!doctype html><meta charset=utf-8><title>sends</title>
<div id=me>ann</div><textarea id=prompt></textarea><button id=new>new</button><button id=go>send</button>
<div id=log style="white-space: pre-wrap"></div>
<script>
const find = (id) => document.getElementById(id);
const show = (kind, text) => {
  const shown = document.createElement("p");
  shown.className = kind;
  shown.textContent = text;
  find("log").append(shown);
};
const BODIES = {
  json: (text) => JSON.stringify({ messages: [{ content: "Be brief." }, { content: text }] }),
  form: (text) => new URLSearchParams({ model: "small", text }),
  multipart: (text) => {
    const form = new FormData();
    form.append("model", "small");
    form.append("text", text);
    return form;
  },
  whole: (text) => text,
};
find("new").onclick = () => find("log").replaceChildren();
find("go").onclick = async () => {
  const text = find("prompt").value.replaceAll("\\n\\t", "\\n");
  find("prompt").value = "";
  show("asked", text);
  fetch("/typing", { method: "POST", body: "{}" });
  const response = await fetch("/ask", { method: "POST", body: BODIES[location.search.slice(1)](text) });
  show("answer", JSON.parse(await response.text()).text);
};
</script>"""

SITE = """
name = "sends"
url = "{url}/?{body}"
login.logged_in = [{{ selector = "#me" }}]
fresh_chat.actions = [{{ click = "#new" }}]
input.selector = "#prompt"
[send]
actions = [{{ click = "#go" }}]
[send.prompt]
{place}
verify = true
[capture.network]
kind = "jsonl"
url = "*/ask"
text = "data.text"
[[models]]
name = "sends"
"""
PLACES = {
    "json": 'url = "*"\njson = "messages[-1].content"',
    "form": 'url = "*/ask"\nform = "text"',
    "multipart": 'url = "*/ask"\nform = "text"',
    "whole": 'url = "*/ask"',
    "bubble": 'selector = ".asked"',
}
EXACT = "Say it: é 😀 & = %\n\n  as it is"
CHANGED = "Say it:\n\tas it is"
WHERE = "the page sent another prompt: character 9 of 17 is a tab, and what it sent has a letter there"


@pytest.fixture(scope="module")
async def url() -> AsyncIterator[str]:
    async def show(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=json.dumps({"text": "done"}), content_type="application/jsonl")

    app = web.Application()
    app.add_routes([web.get("/", show), web.post("/ask", answer), web.post("/typing", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def file_of(url: str, name: str, *, place: str = "") -> Site:
    body = "whole" if name == "bubble" else name
    return parse_site(
        SITE.format(
            url=url,
            body=body,
            place=place or PLACES[name],
        ),
        "sends.toml",
    )


def state_of(url: str) -> dict[str, Any]:
    return {"cookies": [], "origins": [{"origin": url, "localStorage": [{"name": "key", "value": "open sesame"}]}]}


@pytest.mark.parametrize("name", sorted(PLACES))
async def test_a_prompt_that_the_page_changes_is_an_error(shared_pages: Pages, url: str, name: str) -> None:
    page = await shared_pages.open(file_of(url, name), state_of(url))
    with capture_logs() as logs:
        assert await asyncio.wait_for(ask(page, EXACT, "sends"), HANG_LIMIT_S) == "done"
        await eventually(lambda: not page.busy)
        assert not [row for row in logs if row["event"].startswith("sent_prompt")]
        with pytest.raises(PromptChanged, match=WHERE) as caught:
            await asyncio.wait_for(ask(page, CHANGED, "sends"), HANG_LIMIT_S)
    assert caught.value.submitted
    [row] = [row for row in logs if row["event"] == "sent_prompt_differs"]
    assert (row["at"], row["wanted"], row["sent"]) == (9, "a tab", "a letter")
    assert "as it is" not in str(logs)
    await eventually(lambda: page.status.ready and not page.busy)


@pytest.mark.firefox
async def test_a_browser_that_does_not_tell_what_requests_hold_is_logged(shared_pages: Pages, url: str) -> None:
    page = await shared_pages.open(file_of(url, "json", place='url = "*/ask"'), state_of(url), engine="firefox")
    with capture_logs() as logs:
        assert await asyncio.wait_for(ask(page, CHANGED, "sends"), HANG_LIMIT_S) == "done"
        await eventually(lambda: not page.busy)
    assert [row["unreadable"] for row in logs if row["event"] == "sent_prompt_not_found"] == [True]


async def test_a_place_that_holds_no_prompt_is_logged(shared_pages: Pages, url: str) -> None:
    """And nothing else: a wrong key must not fail every prompt."""
    file = file_of(url, "json", place='url = "*/ask"\njson = "messages[-1].text"')
    page = await shared_pages.open(file, state_of(url))
    with capture_logs() as logs:
        assert await asyncio.wait_for(ask(page, CHANGED, "sends"), HANG_LIMIT_S) == "done"
        await eventually(lambda: not page.busy)
    assert [row["requests"] for row in logs if row["event"] == "sent_prompt_not_found"] == [1]

"""Chat apps that nobody here wrote, each driven by its site file alone, on every engine."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from api_utils.tools import write_call
from browser.check.checkup import Checkup
from browser.check.context import CheckPlan
from browser.check.outcome import Exit
from browser.check.screen import Screen
from browser.errors import SiteFailed
from browser.page.chat_page import ChatPage
from browser.settings import BrowserSettings, EngineName
from browser.site.load import SITES_DIR, Site, parse_site
from tests.api.conftest import serve_page
from tests.api.test_tools import OSLO, TOOLS
from tests.browser.asking import ask
from tests.browser.conftest import Pages, SharedBrowser
from tests.browser.profiles import write_profile
from tests.sites.chat_app import APPS, ChatApp
from tests.sites.conftest import LONG_IN_FIREFOX
from tests.sites.laid_out import laid_out
from tests.support.ports import NOWHERE
from tests.support.waiting import eventually

pytestmark = pytest.mark.sites
# Whole fleets do the same on the other engines, whose programs the coordinator can start: test_fleet.py.
camoufox_only = pytest.mark.parametrize("engine", ["camoufox"], indirect=True, scope="session")


@dataclass
class Driven:
    """An app, and a page of it."""

    app: ChatApp
    page: ChatPage
    pages: Pages

    async def pieces(self, prompt: str) -> AsyncGenerator[str, None]:
        """Ask once the page is ready, as the coordinator does: on a busy machine a large prompt keeps it busy."""
        await eventually(lambda: self.page.status.ready, timeout_s=60, what=lambda: self.page.status)
        async with aclosing(self.page.ask("a", prompt, self.app.name)) as pieces:
            async for piece in pieces:
                yield piece

    async def ask(self, prompt: str) -> str:
        return "".join([piece async for piece in self.pieces(prompt)])

    async def open(self, site: Site, state: dict[str, Any] | None = None) -> ChatPage:
        """A further page, with a login of its own."""
        return await self.pages.open(
            site, state or self.app.log_in(), engine=self.page._browser.host.engine, https_proxy=NOWHERE
        )

    def check(self, answer: str, prompt: str) -> None:
        """The app got exactly this prompt in a conversation of its own, and this is what it answered."""
        done = self.app.entries()[-1]
        received = next(entry for entry in reversed(self.app.entries()) if "prompt" in entry)
        assert received["prompt"] == prompt
        assert received["earlier"] == 0
        assert done["done"] == received["token"]
        if self.app.kind.lays_out_markdown and self.page.status.capture == "dom":
            assert laid_out(answer) == laid_out(done["answer"])
        else:
            assert answer == done["answer"]


def site_file(app: ChatApp, *, network: bool = True, verify: bool = False) -> Site:
    text = (SITES_DIR / f"{app.name}.toml").read_text()
    if verify:
        text = text.replace("[capture.network]", "[capture]\nverify = true\n[capture.network]")
    if not network:
        start = text.index("[capture.network]")
        text = text[:start] + text[text.index("[capture.dom]") :]
    return parse_site(text, f"{app.name}.toml", url=f"{app.url}/")


@pytest.fixture(scope="module")
async def driven(engine: EngineName, app: ChatApp, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Driven]:
    pages = Pages(tmp_path_factory.mktemp("pages"))
    page = await pages.open(site_file(app), app.log_in(), engine=engine, https_proxy=NOWHERE)
    yield Driven(app, page, pages)
    await pages.close()


async def test_answers_come_token_by_token_over_the_network(driven: Driven) -> None:
    assert driven.page.status.ready
    assert driven.page.status.capture == "network"
    prompt = "Grüße, 東京 👩‍🚀\nand a second line"
    pieces = [piece async for piece in driven.pieces(prompt)]
    assert len(pieces) > 10
    driven.check("".join(pieces), prompt)
    assert hashlib.sha256(prompt.encode()).hexdigest() in pieces[0] + pieces[1]


@camoufox_only
async def test_markdown_and_unicode_come_as_the_app_wrote_them(driven: Driven) -> None:
    answer = await driven.ask("show [[code]] [[unicode]]")
    driven.check(answer, "show [[code]] [[unicode]]")
    assert "```python\ndef f(x):\n    return x\n```" in answer


@camoufox_only
async def test_an_answer_of_several_messages(driven: Driven) -> None:
    """Only Chainlit's answers come so; Gradio's are one message, whatever is asked."""
    driven.check(await driven.ask("[[messages]]"), "[[messages]]")


@camoufox_only
async def test_an_empty_answer(driven: Driven) -> None:
    assert await driven.ask("[[empty]]") == ""
    driven.check("", "[[empty]]")


@camoufox_only
async def test_requests_in_turn_share_nothing(driven: Driven) -> None:
    for number in range(5):
        driven.check(await driven.ask(f"prompt {number}"), f"prompt {number}")


@camoufox_only
async def test_a_long_prompt_arrives_exactly(driven: Driven) -> None:
    prompt = "\n".join(f"{number}: {'x' * 45}" for number in range(2000))
    driven.check(await driven.ask(prompt), prompt)


@camoufox_only
async def test_leaving_stops_the_app(driven: Driven) -> None:
    for number in range(3):
        async with aclosing(driven.pieces(f"{number} [[endless]]")) as pieces:
            await anext(pieces)
        await eventually(lambda: "stopped" in driven.app.entries()[-1], timeout_s=30)
    driven.check(await driven.ask("next"), "next")


@camoufox_only
async def test_an_error_of_the_app(driven: Driven) -> None:
    with pytest.raises(SiteFailed) as caught:
        await driven.ask("[[error]]")
    assert caught.value.submitted
    assert "made to fail" not in str(caught.value)
    driven.check(await driven.ask("next"), "next")


async def test_a_login_that_the_app_does_not_know(driven: Driven) -> None:
    state = driven.app.log_in()
    for cookie in state["cookies"]:
        cookie["value"] += "x"
    page = await driven.open(site_file(driven.app), state)
    assert page.status.reason == "login_expired"
    await page.close()


async def test_answers_read_from_the_page(driven: Driven) -> None:
    """What the app laid out comes as Markdown that lays out the same."""
    page = await driven.open(site_file(driven.app, network=False))
    assert page.status.capture == "dom"
    answer = await ask(page, "read me [[code]] [[unicode]]", driven.app.name)
    assert "```python\ndef f(x):\n    return x\n```\n\n- one\n- **two**" in answer
    wrote = driven.app.entries()[-1]["answer"]
    assert laid_out(answer) == laid_out(wrote)
    await page.close()


async def test_answers_held_against_the_page(driven: Driven) -> None:
    page = await driven.open(site_file(driven.app, verify=True))
    assert page.status.capture == "network"
    for prompt in ("[[code]] [[unicode]]", "short [[words=2]]"):
        driven.check(await ask(page, prompt, driven.app.name), prompt)
    await page.close()


chromium_only = pytest.mark.parametrize("engine", ["chromium"], indirect=True, scope="session")


async def check(
    driven: Driven, folder: Path, site: str, prompt: str = "[[code]] [[unicode]]", timeout_s: float = 120.0
) -> tuple[Exit, str]:
    """Run the site checker on the app. Returns its exit code, and what it printed."""
    (folder / "run").mkdir()
    plan = CheckPlan(
        site=site,
        profile=write_profile(folder / "ada.json", driven.app.log_in()),
        engine=driven.page._browser.host.engine,
        headless=True,
        settings=BrowserSettings(https_proxy=NOWHERE, first_token_timeout_s=timeout_s, stream_idle_timeout_s=timeout_s),
        prompt=prompt,
        stop_prompt="[[endless]]",
        model=None,
        sends=True,
    )
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SITE_URL", f"{driven.app.url}/")
        checkup = Checkup(plan, Screen(Console(file=out, width=200)), folder / "run", folder / "report")
        return await checkup.run(), out.getvalue()


@chromium_only
@pytest.mark.parametrize("app", APPS, indirect=True, scope="session")
async def test_the_check_passes(driven: Driven, tmp_path: Path) -> None:
    """What a writer of such a site file is told: nothing fails, and nothing is to be warned of that can be mended."""
    code, out = await check(driven, tmp_path, driven.app.name)
    assert code is Exit.PASSED, out
    warned = re.findall(r"^(?:warn|fail) +(.+?)  ", out, re.MULTILINE)
    assert warned == [], out


@chromium_only
async def test_a_call_that_cannot_be_used_is_asked_for_once_more_where_it_was(driven: Driven) -> None:
    """The app's model makes a bad call, and then the right one: in one conversation, after the second prompt."""
    await eventually(lambda: driven.page.status.ready, timeout_s=60, what=lambda: driven.page.status)
    before = len(driven.app.entries())
    calls = [write_call("weather", '{"city": 7}'), OSLO]
    script = ",".join(f"Let me see.\n\n{call}".encode().hex() for call in calls)
    messages = [{"role": "user", "content": f"Weather? [[say={script}]]"}]
    async with serve_page(driven.page) as client:
        response = await client.post(
            "/v1/chat/completions", json={"model": driven.app.name, "messages": messages, "tools": TOOLS}
        )
        answer = await response.json()
    assert response.status == 200, answer
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("weather", {"city": "Oslo"})
    asked, repair = [entry for entry in driven.app.entries()[before:] if "prompt" in entry]
    assert asked["earlier"] == 0
    assert repair["earlier"] > 0
    assert "cannot be used" in repair["prompt"]
    driven.check(await driven.ask("next"), "next")


@pytest.fixture(scope="module")
async def in_firefox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pages]:
    """Pages in one Firefox."""
    shared = SharedBrowser(tmp_path_factory.mktemp("firefox"), https_proxy=NOWHERE)
    pages = Pages(tmp_path_factory.mktemp("pages"), shared)
    yield pages
    await pages.close()
    await shared.close()


@pytest.mark.parametrize("app", sorted(LONG_IN_FIREFOX), indirect=True, scope="session")
async def test_the_main_things_in_firefox(app: ChatApp, in_firefox: Pages) -> None:
    """Whole fleets do more of these apps on Chromium, and of the others on Firefox, too: test_fleet.py."""
    page = await in_firefox.open(site_file(app), app.log_in(), engine="firefox", https_proxy=NOWHERE)
    assert page.status.capture == ("dom" if app.kind.lays_out_markdown else "network")
    driven = Driven(app, page, in_firefox)
    for prompt in ("Grüße, 東京 👩‍🚀\nand a second line", "show [[code]] [[unicode]]"):
        pieces = [piece async for piece in driven.pieces(prompt)]
        assert len(pieces) > 1
        driven.check("".join(pieces), prompt)
    with pytest.raises(SiteFailed):
        await driven.ask("[[error]]")
    async with aclosing(driven.pieces("[[endless]]")) as endless:
        await anext(endless)
    await eventually(lambda: "stopped" in app.entries()[-1], timeout_s=60)
    driven.check(await driven.ask("next"), "next")
    await page.close()


PLAIN = "plain"
WRONG_KEYS = [
    ("gradio", "url", "queue/data*", "queue/date*", PLAIN),
    ("gradio", "same", "data.event_id", "data.msg", PLAIN),
    ("gradio", "document", "data.output.data[1][0]", "data.output.data[2][0]", PLAIN),
    ("gradio", "changes", "data.msg == 'process_generating'", "data.msg == 'process_generates'", PLAIN),
    ("gradio", "whole", "role == 'assistant'", "role == 'bot'", PLAIN),
    ("gradio", "end", "end = \"data.msg == 'process_completed'", "end = \"data.msg == 'process_complete'", PLAIN),
    ("gradio", "error", "data.success == `false`", "data.success == `0`", "[[error]]"),
    ("chainlit", "url", "*/ws/socket.io/*", "*/ws/socket.ios/*", PLAIN),
    ("chainlit", "start", "task_start", "task_begin", PLAIN),
    ("chainlit", "text", "data[1].isSequence == `false`", "data[1].isSequence == `0`", PLAIN),
    ("chainlit", "message", 'data[1].id"', 'data[1].ids"', PLAIN),
    ("chainlit", "begins", "assistant_message", "assistant", PLAIN),
    ("chainlit", "end", "task_end", "task_over", PLAIN),
]


@chromium_only
@pytest.mark.parametrize(
    ("app", "key", "old", "new", "prompt"),
    WRONG_KEYS,
    indirect=["app"],
    ids=[f"{row[0]}-{row[1]}" for row in WRONG_KEYS],
    scope="session",
)
async def test_the_check_names_the_line_that_is_wrong(  # noqa: PLR0917 - fixtures, and a table
    driven: Driven, tmp_path: Path, key: str, old: str, new: str, prompt: str
) -> None:
    text = (SITES_DIR / f"{driven.app.name}.toml").read_text()
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new, 1))
    _, out = await check(driven, tmp_path, str(tmp_path / "mine.toml"), prompt, timeout_s=8.0)
    named = re.search(r"look at .*?, line (\d+) \(capture\.network\.(\w+)\)", out)
    assert named, out
    table = text.index("[capture.network]")
    line = text.count("\n", 0, text.index(f"\n{key} = ", table)) + 2
    assert (named[2], int(named[1])) == (key, line), out

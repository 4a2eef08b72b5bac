"""Chat apps that nobody here wrote, served to the OpenAI client through the coordinator, by their site files alone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.e2e.fleet import Fleet, Site, fleet
from tests.sites.chat_app import APPS, KINDS, ChatApp, chat_app, log_in_by_hand
from tests.sites.laid_out import laid_out
from tests.support.ports import NOWHERE
from tests.support.waiting import eventually

pytestmark = [pytest.mark.sites, pytest.mark.timeout(600)]

LONG = "\n".join(f"{number:04d} {'é' if number % 7 == 0 else 'x'}{'y' * 44}" for number in range(2000))
WANTED = [
    LONG,
    "Grüße, 東京 👩‍🚀 [[unicode]]\nand a second line",
    "show me [[code]]",
    "several [[messages]]",
    "[[empty]]",
    "whole \\ <b>&amp;</b> {x} `y`\n\n\tindented [[unicode]] [[code]]",
]
MANY = [*WANTED, *(f"number {number} [[words=3]]" for number in range(44))]
TEN = [LONG[:20_000], *WANTED[1:], "[[table]] and [[code]]", *(f"number {number} [[words=3]]" for number in range(3))]
PROMPTS = {"chainlit": MANY, "gradio": MANY}
WITH_LOGIN = [name for name in APPS if KINDS[name].logged_in]
CLIENTS = 3
START_TIMEOUT_S = 200.0  # on a busy machine Firefox alone takes a minute to start


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


@dataclass
class Served:
    """An app, and a coordinator with one child that drives it."""

    app: ChatApp
    fleet: Fleet
    profile: Path
    client: AsyncOpenAI

    async def ask(self, prompt: str, *, stream: bool = True, retries: int = 2) -> str:
        messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
        client = self.client.with_options(max_retries=retries)
        if not stream:
            whole = await client.chat.completions.create(model=self.app.name, messages=messages)
            return whole.choices[0].message.content or ""
        parts = await client.chat.completions.create(model=self.app.name, messages=messages, stream=True)
        return "".join([part.choices[0].delta.content or "" async for part in parts])

    def submissions(self, prompt: str) -> list[dict[str, Any]]:
        return [entry for entry in self.app.entries() if entry.get("prompt") == prompt]

    def check(self, answer: str, prompt: str) -> None:
        """The app got exactly this prompt, once, in a conversation of its own, and answered just this."""
        (received,) = self.submissions(prompt)
        (done,) = [entry for entry in self.app.entries() if entry.get("done") == received["token"]]
        assert received["earlier"] == 0
        if self.app.kind.lays_out_markdown:
            assert laid_out(answer) == laid_out(done["answer"])
            return
        # Chainlit sends a message's whole text at its end, without the space there; and where the page lost its
        # connection for a moment, its own text is read, which has no spaces at the end of a line.
        if self.app.name == "chainlit":
            assert _lines(answer) == _lines(done["answer"])
        else:
            assert answer.rstrip() == done["answer"].rstrip()

    async def ready(self) -> None:
        await asyncio.to_thread(self.fleet.wait_for, START_TIMEOUT_S, ada="READY")

    async def log_in_anew(self) -> None:
        """As an operator does: log in, replace the profile, tell the coordinator."""
        await asyncio.to_thread(log_in_by_hand, self.app, self.profile)
        self.fleet.process.send_signal(signal.SIGHUP)
        await self.ready()


@pytest.fixture(scope="module", params=["chromium", "firefox"])
def served(request: pytest.FixtureRequest, app_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp(f"{app_name}-{request.param}")
    for name in ("app", "active"):
        (folder / name).mkdir()
    with chat_app(app_name, folder / "app") as app:
        profile = folder / "active/ada.json"
        log_in_by_hand(app, profile)
        settings = {"CHAT_SITE": app_name, "BROWSER_ENGINE": request.param, "HTTPS_PROXY": NOWHERE}
        settings["START_TIMEOUT_S"] = str(START_TIMEOUT_S)
        with fleet(Site(f"{app.url}/", ""), profile.parent, folder / "fleet", **settings) as running:
            client = AsyncOpenAI(base_url=f"{running.url}/v1", api_key=running.key)
            running.wait_for(START_TIMEOUT_S, ada="READY")
            yield Served(app, running, profile, client)


@pytest.fixture(scope="module", params=APPS)
def app_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


async def test_many_requests(served: Served) -> None:
    by_page = served.app.kind.lays_out_markdown
    assert served.fleet.children()["ada"]["capture"] == ("dom" if by_page else "network")
    assert [model.id async for model in served.client.models.list()] == [served.app.name]
    prompts = PROMPTS.get(served.app.name, TEN)
    assert len(set(prompts)) == len(prompts) >= 10
    waiting = iter(enumerate(prompts))

    async def work() -> None:
        for number, prompt in waiting:
            served.check(await served.ask(prompt, stream=number % 5 != 4), prompt)

    await asyncio.gather(*(work() for _ in range(CLIENTS)))
    assert served.fleet.children()["ada"]["restarts"] == 0


async def test_an_error_of_the_app(served: Served) -> None:
    await served.ready()
    with pytest.raises(openai.APIError) as caught:
        await served.ask("[[error]]", retries=0)
    assert caught.value.code == "site_error"
    assert "made to fail" not in str(caught.value)
    assert len(served.submissions("[[error]]")) == 1
    served.check(await served.ask("after the error"), "after the error")


async def test_a_client_that_leaves_stops_the_app(served: Served) -> None:
    await served.ready()
    async with _answering(served, "leave [[endless]]"):
        pass
    await eventually(lambda: "stopped" in served.app.entries()[-1], timeout_s=30)
    await served.ready()  # Firefox may take so long to stop Chainlit that the child is unready until the page is free
    served.check(await served.ask("after leaving"), "after leaving")


async def test_the_app_restarted_in_the_middle(served: Served) -> None:
    await served.ready()
    async with _answering(served, "restarted [[endless]]") as asking:
        served.app.kill()
        with pytest.raises(openai.APIError) as caught:
            await asking
    # A Panel page shows nothing of a server that is gone: its answer ends when it has stood still for too long.
    standstill = {"stream_idle_timeout"} if served.app.name == "panel" else set()
    assert caught.value.code in {"site_error", "site_unreachable", "page_broken"} | standstill
    assert len(served.submissions("restarted [[endless]]")) == 1
    await eventually(lambda: served.fleet.children()["ada"]["reason"] == "site_unreachable", timeout_s=60)
    await asyncio.to_thread(served.app.start)
    if served.app.kind.forgets_logins:
        await eventually(lambda: served.fleet.children()["ada"]["reason"] == "login_expired", timeout_s=90)
        await served.log_in_anew()
    await served.ready()
    served.check(await served.ask("after the restart"), "after the restart")


# The apps with a login are the first of APPS: each is still started once, for pytest goes by a parameter's number.
@pytest.mark.parametrize("app_name", WITH_LOGIN, indirect=True, scope="module")
async def test_a_session_that_the_app_ends_is_noticed_in_use(served: Served) -> None:
    """Chainlit still answers on the connection it has, and asks for a login on the next; Gradio refuses at once."""
    prompt = "with no session [[words=1]]"
    await served.ready()
    served.app.end_sessions()
    try:
        served.check(await served.ask(prompt, retries=0), prompt)
    except openai.APIError as error:
        assert error.code == "login_expired"  # noqa: PT017 - either is right
    await eventually(lambda: served.fleet.children()["ada"]["reason"] == "login_expired", timeout_s=30)
    assert len(served.submissions(prompt)) <= 1
    with pytest.raises(openai.APIError) as caught:
        await served.ask("too late", retries=0)
    assert getattr(caught.value, "status_code", None) == 503
    assert served.submissions("too late") == []
    await served.log_in_anew()
    served.check(await served.ask("logged in anew"), "logged in anew")


@asynccontextmanager
async def _answering(served: Served, prompt: str) -> AsyncIterator[asyncio.Task[None]]:
    """Ask for an answer that does not end, and enter once its first words have come: they do while it is written."""

    async def ask() -> None:
        messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
        stream = await served.client.chat.completions.create(model=served.app.name, messages=messages, stream=True)
        async with stream:
            async for part in stream:
                if part.choices[0].delta.content:
                    has_text.set()

    has_text = asyncio.Event()
    asking = asyncio.create_task(ask())
    try:
        await eventually(lambda: asking.done() or has_text.is_set(), timeout_s=60)
        yield asking
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

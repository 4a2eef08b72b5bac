"""A site file checked in a tab beside a page in service: what is named, and that the page notices nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from api_utils.settings import ChildSettings
from browser.check.page_check import check_beside
from browser.page.chat_page import ChatPage
from browser.settings import BrowserSettings, EngineName
from browser.site.load import SITES_DIR
from contract.site_check import CheckOutcome, SiteCheck
from demo.site import DemoSite, serve
from tests.api.conftest import serve_page
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, SharedBrowser, demo_file, tab_of
from tests.browser.profiles import cookie_state
from tests.support.waiting import HANG_LIMIT_S, eventually

pytestmark = pytest.mark.slow

FIREFOX = pytest.param("firefox", marks=pytest.mark.firefox)
QUICK = (
    '[readiness]\nselector = "[data-testid=prompt]"',
    '[readiness]\ntimeout_s = 5.0\nselector = "[data-testid=prompt]"',
)
"""A page that lacks a marker is waited for as long as the site file says, which a test need not."""


def demo_text(demo: DemoSite, *changes: tuple[str, str]) -> str:
    text = (SITES_DIR / "demo.toml").read_text().replace("http://127.0.0.1:8800", demo.url)
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
async def demo() -> AsyncIterator[DemoSite]:
    async with serve() as site:
        yield site


@pytest.fixture(scope="module")
async def page(
    demo: DemoSite, shared_browser: SharedBrowser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ChatPage]:
    """One page for the module: no check may change anything about it."""
    pages = Pages(tmp_path_factory.mktemp("pages"), shared_browser)
    yield await pages.open(demo_file(demo), cookie_state(demo))
    await pages.close()


@pytest.fixture
async def page_of_its_own(demo: DemoSite, shared_pages: Pages) -> ChatPage:
    """For tests that cut off a check."""
    return await shared_pages.open(demo_file(demo), cookie_state(demo))


async def check(page: ChatPage, text: str, engine: EngineName = "chromium") -> SiteCheck:
    return await check_beside(page.site_page, "demo.toml", text, engine=engine, settings=BrowserSettings())


def line_with(text: str, part: str) -> int:
    (line,) = (at for at, found in enumerate(text.splitlines(), 1) if part in found)
    return line


@pytest.mark.parametrize("engine", ["chromium", FIREFOX])
async def test_a_good_file_passes_and_the_page_in_service_is_as_it_was(
    shared_pages: Pages, demo: DemoSite, engine: EngineName
) -> None:
    page = await shared_pages.open(demo_file(demo), cookie_state(demo), engine=engine)
    before, asked = tab_of(page).page, len(demo.ledger.entries())
    found = await check(page, demo_text(demo), engine)
    assert found.outcome is CheckOutcome.PASSED, found
    names = ["page", "logged in", "login check", "logged out", "capture", "fresh chat", "models", "input"]
    assert [step.name for step in found.steps] == [*names, "send is there"]
    assert {step.mark for step in found.steps} == {"ok"}
    assert page.site_page.context.pages == [before]
    assert len(demo.ledger.entries()) == asked
    assert page.status.ready
    check_answer(await ask(page, "hello"), "hello", last(demo))


@pytest.mark.parametrize(
    ("change", "step", "key"),
    [
        (("[data-testid=account]", "#gone"), "logged in", "login.logged_in[0].selector"),
        (("[data-testid=login-form]", "#gone"), "logged out", "login.logged_out[0]"),
        (('5.0\nselector = "[data-testid=prompt]"', '5.0\nselector = "#gone"'), "logged in", "readiness.selector"),
        (('{ click = "[data-testid=new-chat]"', '{ timeout_s = 0.3, click = "#gone"'), "fresh chat", "click"),
        (('[input]\nselector = "[data-testid=prompt]"', '[input]\nselector = "#gone"'), "input", "input.selector"),
        (('{ click = "[data-testid=send]"', '{ timeout_s = 0.3, click = "#gone"'), "send is there", "send"),
        (
            (
                'name = "demo-large"\nchoose = [{ select = "[data-testid=model]"',
                'name = "demo-large"\nchoose = [{ timeout_s = 0.3, select = "#gone"',
            ),
            "models",
            "models[1].choose[0].select",
        ),
    ],
    ids=["logged-in", "logged-out", "readiness", "fresh-chat", "input", "send", "model"],
)
async def test_a_selector_that_finds_nothing_is_named_with_its_line(
    page: ChatPage, demo: DemoSite, change: tuple[str, str], step: str, key: str
) -> None:
    text = demo_text(demo, QUICK, change) if step.startswith("logged") else demo_text(demo, change)
    found = await check(page, text)
    assert (found.outcome, found.step, found.file) == (CheckOutcome.CHANGED, step, "demo.toml"), found
    assert found.line == line_with(text, "#gone"), found
    assert key in (found.key or "")
    assert found.selector in ("#gone", None)
    assert page.status.ready
    assert page.site_page.context.pages == [tab_of(page).page]


async def test_a_file_that_is_wrong_is_told_with_its_line_and_without_a_page(page: ChatPage, demo: DemoSite) -> None:
    text = demo_text(demo, ("[send]", "[send]\nsent = 1"))
    found = await check(page, text)
    assert found.outcome is CheckOutcome.INVALID
    assert f"demo.toml, line {line_with(text, 'sent = 1')}: send.sent: unknown key" in found.message


async def test_a_prompt_is_sent_only_if_the_file_has_one(page: ChatPage, demo: DemoSite) -> None:
    prompt = '[check]\nprompt = "How do you do?"\n\n[login]'
    found = await check(page, demo_text(demo, ("[login]", prompt)))
    assert found.outcome is CheckOutcome.PASSED, found
    assert (last(demo).prompt, last(demo).outcome) == ("How do you do?", "done")
    text = demo_text(demo, ("[login]", prompt), ("'token' && data.text", "'token' && data.txt"))
    found = await check(page, text)
    assert (found.outcome, found.key) == (CheckOutcome.CHANGED, "capture.network.text"), found
    assert found.line == line_with(text, "data.txt")
    assert found.message == "the step failed"


async def test_a_site_that_is_away_is_no_changed_page(page: ChatPage, demo: DemoSite) -> None:
    async with serve() as gone:
        text = demo_text(demo).replace(demo.url, gone.url)
    found = await check(page, text)
    assert (found.outcome, found.step) == (CheckOutcome.UNREACHABLE, "page")
    assert (found.key, found.selector) == ("url", None), "an address may hold what not everybody is to see"


async def test_a_login_that_ended_is_no_changed_page(shared_pages: Pages, demo: DemoSite) -> None:
    page = await shared_pages.open(demo_file(demo), cookie_state(demo, "grace"), login_check_s=600)
    await page.site_page.context.clear_cookies()
    found = await check(page, demo_text(demo))
    assert (found.outcome, found.step) == (CheckOutcome.LOGGED_OUT, "logged in")


@pytest.mark.parametrize("engine", ["chromium", FIREFOX])
async def test_a_check_that_is_called_off_at_any_moment_leaves_no_tab(
    pages: Pages, demo: DemoSite, engine: EngineName
) -> None:
    page = await pages.open(demo_file(demo), cookie_state(demo), engine=engine)
    moments = [0.0, 0.001, 0.003, 0.01, 0.02, 0.03, 0.06, 0.1]  # seconds; a page is navigating in most of them
    for moment in moments + moments:
        checking = asyncio.create_task(check(page, demo_text(demo), engine))
        await eventually(lambda: page.site_page.has_beside)
        await asyncio.sleep(moment)
        checking.cancel()
        async with asyncio.timeout(HANG_LIMIT_S):
            await asyncio.gather(checking, return_exceptions=True)
        assert checking.cancelled(), moment
        assert not page.site_page.has_beside, moment
        assert page.site_page.context.pages == [tab_of(page).page], moment
    check_answer(await ask(page, "and now?"), "and now?", last(demo))


async def test_a_request_that_comes_ends_the_check_and_is_answered(page_of_its_own: ChatPage, demo: DemoSite) -> None:
    async with serve_page(page_of_its_own, settings=ChildSettings(tabfleet_control_token="the-token")) as client:
        # It waits for an input that never comes: it has not ended before the request, however slow the machine is.
        shown, never = (f'[input]\nselector = "[data-testid={name}]"' for name in ("prompt", "none"))
        text = demo_text(demo, (shown, never))
        body = {"file": "demo.toml", "text": text}
        while True:  # a look after the login, before there is a tab, has the check given up too
            checking = asyncio.create_task(client.post("/check", json=body, headers={"x-tabfleet-token": "the-token"}))
            await eventually(lambda task=checking: page_of_its_own.site_page.has_beside or task.done())  # type: ignore[misc]
            if not checking.done():
                break
        another = await (await client.post("/check", json=body, headers={"x-tabfleet-token": "the-token"})).json()
        assert (another["outcome"], another["message"]) == ("given_up", "another check is under way")
        chat = {"model": "demo-small", "messages": [{"role": "user", "content": "in the midst of a check"}]}
        async with client.post("/v1/chat/completions", json=chat) as answer:
            text = (await answer.json())["choices"][0]["message"]["content"]
        check_answer(text, "in the midst of a check", last(demo))
        found = await (await checking).json()
        assert (found["outcome"], found["message"]) == ("given_up", "a request came")
        await eventually(lambda: page_of_its_own.site_page.context.pages == [tab_of(page_of_its_own).page])


async def test_a_site_that_opens_pages_does_not_hide_behind_a_check(page_of_its_own: ChatPage, demo: DemoSite) -> None:
    """What is open beside the page is the check's tab alone; others are closed, while it runs too."""
    checking = asyncio.create_task(check(page_of_its_own, demo_text(demo)))
    await eventually(lambda: page_of_its_own.site_page.has_beside)
    await tab_of(page_of_its_own).page.evaluate("() => { open(location.href); }")
    assert (await checking).outcome is CheckOutcome.PASSED
    await eventually(lambda: page_of_its_own.site_page.context.pages == [tab_of(page_of_its_own).page])

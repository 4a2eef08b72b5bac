"""The page's request with the prompt fails, and the answer would have come over a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from browser.errors import BrowserError
from browser.settings import EngineName
from browser.site.load import parse_site
from tests.browser.asking import ask
from tests.browser.conftest import Pages
from tests.browser.frail_page import FrailSite, frail_site
from tests.support.waiting import HANG_LIMIT_S, eventually

PATIENT: dict[str, Any] = {"first_token_timeout_s": 10 * HANG_LIMIT_S}
"""An error that comes earlier than this is none of the time limit's."""
QUOTA = """
[[refusals]]
text = "too many messages"
means = "quota"
rest_s = 60
"""


@pytest.fixture
async def frail() -> AsyncIterator[FrailSite]:
    async with frail_site() as site:
        yield site


async def error_of_a_prompt(pages: Pages, frail: FrailSite, engine: EngineName = "chromium") -> BrowserError:
    site = parse_site(frail.text() + QUOTA, "frail.toml")
    page = await pages.open(site, frail.state(), engine=engine, **PATIENT)
    with pytest.raises(BrowserError) as caught:
        await asyncio.wait_for(ask(page, "hello", "frail"), HANG_LIMIT_S)
    assert set(frail.prompts) == {"hello"}  # Chromium itself sends a request again whose kept connection was closed
    assert caught.value.submitted is (caught.value.reason != "quota")  # that says that the prompt was not taken
    # The next prompt is asked as if nothing had been.
    frail.ask_status, frail.drops_prompts = 204, False
    if caught.value.reason != "quota":
        await eventually(lambda: page.status.ready and not page.busy and frail.sockets)
        assert await ask(page, "again", "frail") == "you said again"
    return caught.value


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [(500, "", "site_error"), (404, "", "site_error"), (429, "Too many messages today.", "quota")],
)
async def test_a_status_ends_the_prompt_at_once(
    shared_pages: Pages, frail: FrailSite, status: int, text: str, reason: str
) -> None:
    frail.ask_status, frail.ask_text = status, text
    assert (await error_of_a_prompt(shared_pages, frail)).reason == reason


@pytest.mark.parametrize("engine", ["chromium", pytest.param("firefox", marks=pytest.mark.firefox)])
async def test_a_request_without_an_answer_ends_the_prompt_at_once(
    shared_pages: Pages, frail: FrailSite, engine: EngineName
) -> None:
    frail.drops_prompts = True
    assert (await error_of_a_prompt(shared_pages, frail, engine)).reason == "site_unreachable"


async def test_a_request_that_the_page_calls_off_is_no_failure(shared_pages: Pages, frail: FrailSite) -> None:
    """Some do so as soon as the answer is there."""
    page = await shared_pages.open(frail.file(), frail.state(), **PATIENT)
    for prompt in ("[abort] first", "second"):
        assert await ask(page, prompt, "frail") == f"you said {prompt}"
        await eventually(lambda: not page.busy)
    assert page.status.ready

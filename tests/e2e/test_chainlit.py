"""A real Chainlit app, served to the real OpenAI client through the coordinator, by its site file alone."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from openai import AsyncOpenAI
from playwright.async_api import async_playwright

from tests.e2e.fleet import Site, chromium, fleet
from tests.sites.chat_app import ChatApp, chat_app
from tests.support.ports import NOWHERE

PROMPT = "Grüße, 東京\nand a second line"


async def test_the_openai_client_gets_answers_of_an_app_that_nobody_here_wrote(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "active").mkdir()
    with chat_app("chainlit", tmp_path / "app") as app:
        await _log_in(app, tmp_path / "active/ada.json")
        page = {"CHAT_SITE": "chainlit", "HTTPS_PROXY": NOWHERE}
        with fleet(Site(f"{app.url}/", ""), tmp_path / "active", tmp_path / "fleet", **page) as running:
            await asyncio.to_thread(running.wait_for, ada="READY")
            client = AsyncOpenAI(base_url=f"{running.url}/v1", api_key=running.key)
            assert [model.id async for model in client.models.list()] == ["chainlit"]
            for stream in (False, True):
                answer = await (_streamed if stream else _whole)(client, PROMPT)
                received, done = app.entries()[-2:]
                assert received["prompt"] == PROMPT
                assert received["earlier"] == 0
                assert answer == done["answer"]
                assert received["token"] in answer
                assert hashlib.sha256(PROMPT.encode()).hexdigest() in answer


async def _whole(client: AsyncOpenAI, prompt: str) -> str:
    answer = await client.chat.completions.create(model="chainlit", messages=[{"role": "user", "content": prompt}])
    return answer.choices[0].message.content or ""


async def _streamed(client: AsyncOpenAI, prompt: str) -> str:
    stream = await client.chat.completions.create(
        model="chainlit", messages=[{"role": "user", "content": prompt}], stream=True
    )
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert len(pieces) > 10
    return "".join(pieces)


async def _log_in(app: ChatApp, path: Path) -> None:
    """Log in on the app's own page, in a real browser, and save the profile."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), proxy={"server": NOWHERE, "bypass": "127.0.0.1"}
        )
        page = await browser.new_page()
        await page.goto(f"{app.url}/login")
        await page.fill("input[type=email], input[name=email], #email", "ada")
        await page.fill("input[type=password]", "lovelace")
        await page.press("input[type=password]", "Enter")
        await page.wait_for_selector("#chat-input")
        await page.context.storage_state(path=path)
        await browser.close()

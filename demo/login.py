"""Logging users in with a real browser and keeping what it then knows: their profiles."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from playwright.async_api import Browser, Playwright, async_playwright
from playwright.async_api import Error as PlaywrightError

from demo.chromium import chromium_arguments
from demo.errors import LoginFailed

TIMEOUT_MS = 20_000


async def save_profiles(site_url: str, passwords: Mapping[str, str], folder: Path, executable: str) -> None:
    """Log each user in and write their storage_state to `<folder>/<user>.json`, mode 0600.

    Raises LoginFailed if the browser cannot be started or the chat page does not come up.
    """
    try:
        async with _driver() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=executable,
                args=chromium_arguments(),
                handle_sigint=False,
                handle_sigterm=False,
                handle_sighup=False,
            )
            for username, password in passwords.items():
                state = await _log_in(browser, site_url, username, password)
                _write_private(folder / f"{username}.json", state)
            await browser.close()
    except PlaywrightError as error:
        reason = error.message.splitlines()[0]
        raise LoginFailed(f"logging in at {site_url} with {executable} failed: {reason}") from error


@asynccontextmanager
async def _driver() -> AsyncIterator[Playwright]:
    """Give Playwright with a driver that is not hit by Ctrl-C: it must live to close its browser."""
    with _held(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        starting = asyncio.ensure_future(async_playwright().start())
        try:
            playwright = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await (await starting).stop()
            raise
    try:
        yield playwright
    finally:
        await playwright.stop()


@contextmanager
def _held(*signals: signal.Signals) -> Iterator[None]:
    """Hold signals back in this thread; a process started meanwhile never gets them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _log_in(browser: Browser, site_url: str, username: str, password: str) -> str:
    context = await browser.new_context()
    context.set_default_timeout(TIMEOUT_MS)
    page = await context.new_page()
    await page.goto(f"{site_url}/login")
    await page.fill("#username", username)
    await page.fill("#password", password)
    await page.click("[data-testid=log-in]")
    await page.wait_for_selector("[data-testid=account]")
    state = await context.storage_state()
    await context.close()
    return json.dumps(state, indent=2)


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)

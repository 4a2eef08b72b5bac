"""Log users in with a real browser and save their storage states as profiles."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Playwright, async_playwright
from playwright.async_api import Error as PlaywrightError

from demo.accounts import PASSWORDS
from demo.chromium import chromium_arguments
from demo.errors import LoginFailed

TIMEOUT_MS = 20_000


async def save_profiles(site_url: str, passwords: Mapping[str, str], folder: Path, executable: str) -> None:
    """Log each user in and write their storage_state to `<folder>/<user>.json`, mode 0600.

    Raise LoginFailed if the browser does not start or the chat page does not appear.
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
                # O_EXCL: never write a login through a file or link that somebody else put there.
                descriptor = os.open(folder / f"{username}.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(state)
            await browser.close()
    except PlaywrightError as error:
        reason = error.message.splitlines()[0]
        raise LoginFailed(f"logging in at {site_url} with {executable} failed: {reason}") from error


@asynccontextmanager
async def _driver() -> AsyncIterator[Playwright]:
    """Yield Playwright; stop its driver at the end, also if cancelled while the driver starts."""
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


async def _log_in(browser: Browser, site_url: str, username: str, password: str) -> str:
    context = await browser.new_context()
    context.set_default_timeout(TIMEOUT_MS)
    page = await context.new_page()
    await page.goto(f"{site_url}/login")
    await page.fill("#username", username)
    await page.fill("#password", password)
    await page.click("[data-testid=log-in]")
    await page.wait_for_selector("[data-testid=account]")
    state = await context.storage_state(indexed_db=True)
    await context.close()
    return json.dumps(state, indent=2)


def main(argv: Sequence[str]) -> int:
    """Log in at the site `argv[0]`, save to the folder `argv[1]`, use the browser `argv[2]`. Return the exit code.

    This runs as a process of its own: in the terminal's process group, Ctrl-C would kill Playwright's driver before it
    can close its browser.
    """
    try:
        return asyncio.run(_until_terminated(argv[0], Path(argv[1]), argv[2]))
    except LoginFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1


async def _until_terminated(site_url: str, folder: Path, executable: str) -> int:
    task = asyncio.create_task(save_profiles(site_url, PASSWORDS, folder, executable), name="login")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Close a page, whatever it is doing."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

import structlog
from playwright.async_api import Error, Page

from browser.timeouts import within

log = structlog.get_logger("browser")

CLOSE_TIMEOUT_S: Final = 5.0
_LOST_AFTER_S: Final = 1.0
_OPENS_WITHIN_S: Final = 2.0


async def close_page(page: Page) -> None:
    """Close a page within CLOSE_TIMEOUT_S seconds; one that stays open is logged.

    A close must not come while the page opens. Chromium asks the page's process, and forgets the close if a navigation
    that commits at that moment puts another process in its place; Playwright then waits for ever, and asks no second
    time. Firefox does not close a window that it has not finished opening, and then never does.
    """
    deadline = time.monotonic() + CLOSE_TIMEOUT_S
    browser = page.context.browser
    is_chromium = browser is None or browser.browser_type.name == "chromium"
    with suppress(Error, TimeoutError):
        if not is_chromium:
            await within(_OPENS_WITHIN_S, page.wait_for_load_state("domcontentloaded"), "page-opens")
    with suppress(Error, TimeoutError):
        await within(_LOST_AFTER_S if is_chromium else deadline - time.monotonic(), page.close(), "page-close")
    with suppress(Error, TimeoutError):
        if is_chromium and not page.is_closed():
            await within(deadline - time.monotonic(), _close_again(page), "page-close-again")
    if not page.is_closed():
        log.warning("page_not_closed")


async def _close_again(page: Page) -> None:
    session = await page.context.new_cdp_session(page)
    async with page.expect_event("close"):
        await session.send("Page.close")

"""Close a page, whatever it is doing."""

from __future__ import annotations

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
    """Close a page within CLOSE_TIMEOUT_S seconds; one that stays open is logged."""
    browser = page.context.browser
    is_chromium = browser is not None and browser.browser_type.name == "chromium"
    closing = _close_in_chromium(page) if is_chromium else _close_in_firefox(page)
    with suppress(Error, TimeoutError):
        await within(CLOSE_TIMEOUT_S, closing, "page-close")
    if not page.is_closed():
        log.warning("page_not_closed")


async def _close_in_chromium(page: Page) -> None:
    """Close a page, and ask once more where that is lost.

    Chromium asks the page's process, and forgets the close if a navigation that commits at that moment puts another
    process in its place. Playwright then waits for ever, and asks no second time.
    """
    try:
        await within(_LOST_AFTER_S, page.close(), "page-close-first")
    except TimeoutError:
        session = await page.context.new_cdp_session(page)
        async with page.expect_event("close"):
            await session.send("Page.close")


async def _close_in_firefox(page: Page) -> None:
    """Close a page once it has opened: Firefox does not close a window while it opens it, and then never does."""
    with suppress(Error, TimeoutError):
        await within(_OPENS_WITHIN_S, page.wait_for_load_state("domcontentloaded"), "page-opens")
    await page.close()

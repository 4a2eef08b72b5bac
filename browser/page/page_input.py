"""Clicks and keys as real input events, which a page takes as a person's.

Playwright's own steps wait for the element in several rounds, which costs 10 to 200 ms each. Where one script in
the page says that nothing needs waiting for, the input goes out at once; otherwise Playwright's step waits.
"""

from __future__ import annotations

from playwright.async_api import Page

from browser.capture import scripts


class PageInput:
    """Input into one page. Each step may take timeout_ms; then it raises Playwright's TimeoutError."""

    def __init__(self, page: Page, timeout_ms: float) -> None:
        self._page = page
        self._timeout_ms = timeout_ms

    async def click(self, selector: str) -> None:
        """Click the first element that the selector finds, once that can be done."""
        point = await self._page.evaluate(scripts.POINT, selector)
        if point:
            await self._page.mouse.click(*point)
        else:
            await self._page.locator(selector).first.click(timeout=self._timeout_ms)

    async def dismiss(self, selector: str) -> None:
        """Click the element if it is visible now."""
        if await self._page.locator(selector).first.is_visible():
            await self.click(selector)

    async def press(self, selector: str, key: str) -> None:
        """Press a key, named as in Playwright, in the element."""
        if await self._page.evaluate(scripts.FOCUS, selector):
            await self._page.keyboard.press(key)
        else:
            await self._page.locator(selector).first.press(key, timeout=self._timeout_ms)

    async def select(self, selector: str, value: str) -> None:
        """Choose an option of a <select> by its value or its label."""
        if not await self._page.evaluate(scripts.SELECT, [selector, value]):
            await self._page.locator(selector).first.select_option(value, timeout=self._timeout_ms)

"""Input into the page: clicks and keys as real input events, and a prompt put into its field exactly.

Playwright's own steps wait for the element in several rounds, which costs 10 to 200 ms each. Where one script in
the page says that nothing needs waiting for, the input goes out at once; otherwise Playwright's step waits.
"""

from __future__ import annotations

import structlog
from playwright.async_api import Error, Locator, Page
from playwright.async_api import TimeoutError as PlaywrightTimeout

from browser.capture import scripts
from browser.errors import PageBroken, PromptRejected
from browser.site.schema import Input

log = structlog.get_logger("browser")

INPUT_TIMEOUT_MS = 10_000
FILL_TIMEOUT_MS = 60_000


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


async def enter_prompt(page: Page, field: Input, prompt: str) -> str:
    """Fill the input and read it back; the ways the site file names are tried in turn. Returns the one that did it.

    Newlines of any kind count as one kind. Raises PromptRejected if the input never holds the prompt,
    PageBroken if there is no input.
    """
    wanted = normalised(prompt)
    if any("\ud800" <= character <= "\udfff" for character in wanted):
        raise PromptRejected("the prompt holds half of a surrogate pair, which no page can take", for_good=True)
    for method in field.methods:
        try:
            held = normalised(await _fill(page, field.selector, method, wanted))
            # An editor shows spaces that HTML would drop as no-break spaces, so that the two cannot be told apart.
            if held in (wanted, wanted.replace("\u00a0", " ")):
                return method
        except PlaywrightTimeout:
            raise PageBroken("the page shows no input that takes a prompt (site file: input.selector)") from None
        except Error as error:
            log.debug("prompt_entry_error", method=method, error=type(error).__name__)
        log.info("prompt_entry_differs", method=method)
    raise PromptRejected("the page's input did not take the prompt as it is; nothing was sent", for_good=True)


def normalised(text: str) -> str:
    """Return the text with newlines of one kind: that is what a textarea makes of them."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


async def _fill(page: Page, selector: str, method: str, text: str) -> str:
    """Fill the input and return what it then holds."""
    if method == "setter":
        held: str | None = await page.evaluate(scripts.SET_VALUE, [selector, text])
        if held is not None:
            return held
    element = page.locator(selector).first
    if method == "fill":
        await element.fill(text, timeout=FILL_TIMEOUT_MS)
        return await _read_back(element)
    await element.wait_for(state="visible", timeout=INPUT_TIMEOUT_MS)
    if method == "setter":  # the element was not there at the first try
        return await page.evaluate(scripts.SET_VALUE, [selector, text]) or ""
    await element.evaluate(scripts.SELECT_ALL)
    if method == "insert_text":
        await page.keyboard.insert_text(text)
    else:
        await element.evaluate(scripts.PASTE, text)
    return await _read_back(element)


async def _read_back(element: Locator) -> str:
    held: str = await element.evaluate(scripts.READ_BACK)
    return held

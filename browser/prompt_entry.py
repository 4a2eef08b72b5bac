"""Putting a prompt into the page's input, exactly."""

import structlog
from playwright.async_api import Error, Locator, Page

from browser import scripts
from browser.errors import PageBroken, PromptRejected
from browser.site_schema import Input

log = structlog.get_logger("browser")

INPUT_TIMEOUT_MS = 10_000
FILL_TIMEOUT_MS = 60_000


async def enter_prompt(page: Page, field: Input, prompt: str) -> None:
    """Fill the input and read it back; the ways the site file names are tried in turn.

    Newlines of any kind count as one kind. Raises PromptRejected if the input never holds the prompt,
    PageBroken if there is no input.
    """
    wanted = normalised(prompt)
    if not _is_unicode(wanted):
        raise PromptRejected("the prompt holds half of a surrogate pair, which no page can take")
    element = page.locator(field.selector).first
    try:
        await element.wait_for(state="visible", timeout=INPUT_TIMEOUT_MS)
    except Error:
        raise PageBroken("the page shows no input for a prompt (site file: input.selector)") from None
    for method in field.methods:
        try:
            await _fill(page, element, method, wanted)
            if normalised(await element.evaluate(scripts.READ_BACK)) == wanted:
                return
        except Error as error:
            log.debug("prompt_entry_error", method=method, error=type(error).__name__)
        log.info("prompt_entry_differs", method=method)
    raise PromptRejected("the page's input did not take the prompt as it is; nothing was sent")


def normalised(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


async def _fill(page: Page, element: Locator, method: str, text: str) -> None:
    if method == "setter":
        await element.evaluate(scripts.SET_VALUE, text)
    elif method == "fill":
        await element.fill(text, timeout=FILL_TIMEOUT_MS)
    elif method == "insert_text":
        await element.evaluate(scripts.SELECT_ALL)
        await page.keyboard.insert_text(text)
    else:
        await element.evaluate(scripts.SELECT_ALL)
        await element.evaluate(scripts.PASTE, text)

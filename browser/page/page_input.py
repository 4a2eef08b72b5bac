"""Input into the page: clicks and keys as real input events, and a prompt put into its field exactly.

Playwright's own steps wait for the element in several rounds, which costs 10 to 200 ms each. Where one script in
the page says that nothing needs waiting for, the input goes out at once; otherwise Playwright's step waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import structlog
from playwright.async_api import Error, Locator, Page
from playwright.async_api import TimeoutError as PlaywrightTimeout

from browser.capture import scripts
from browser.errors import PageBroken, PromptRejected
from browser.page.locate import locate
from browser.page.prompt_difference import difference
from browser.site.schema import Input
from browser.site.selectors import path_or_none
from contract.errors import TabfleetError

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
        point = await self._page.evaluate(scripts.POINT, path_or_none(selector))
        if point:
            await self._page.mouse.click(*point)
        else:
            await locate(self._page, selector).click(timeout=self._timeout_ms)

    async def dismiss(self, selector: str) -> None:
        """Click the element if it is visible now."""
        if await locate(self._page, selector).is_visible():
            await self.click(selector)

    async def press(self, selector: str, key: str) -> None:
        """Press a key, named as in Playwright, in the element."""
        if await self._page.evaluate(scripts.FOCUS, path_or_none(selector)):
            await self._page.keyboard.press(key)
        else:
            await locate(self._page, selector).press(key, timeout=self._timeout_ms)

    async def select(self, selector: str, value: str) -> None:
        """Choose an option of a <select> by its value or its label."""
        if not await self._page.evaluate(scripts.SELECT, [path_or_none(selector), value]):
            await locate(self._page, selector).select_option(value, timeout=self._timeout_ms)


async def enter_prompt(page: Page, field: Input, prompt: str) -> str:
    """Fill the input and read it back; the ways the site file names are tried in turn. Returns the one that did it.

    Newlines of any kind count as one kind. Raises PromptRejected if the input never holds the prompt,
    PageBroken if there is no input.
    """
    wanted = normalised(prompt)
    if any("\ud800" <= character <= "\udfff" for character in wanted):
        raise PromptRejected("the prompt holds half of a surrogate pair, which no page can take", for_good=True)
    failures: dict[str, str] = {}
    for method in field.methods:
        try:
            held = await _fill(page, field, method, wanted)
        except PlaywrightTimeout:
            raise PageBroken("the page shows no input that takes a prompt (site file: input.selector)") from None
        except Error as error:
            log.info("prompt_entry_error", method=method, error=type(error).__name__)
            failures[method] = "the browser could not do it"
            continue
        except _NotPossible as error:
            log.info("prompt_entry_not_possible", method=method, reason=str(error))
            failures[method] = str(error)
            continue
        differs = difference(wanted, normalised(held.text), rich=held.rich)
        if differs is None:
            return method
        log.info("prompt_entry_differs", method=method, at=differs.at, wanted=differs.wanted, held=differs.held)
        failures[method] = str(differs)
    raise _rejected(failures)


def _rejected(failures: Mapping[str, str]) -> PromptRejected:
    """Return the refusal, with what the last way came to, for that is what the page is left with."""
    message = f"the page's input did not take the prompt as it is: {[*failures.values()][-1]}; nothing was sent"
    tried = tuple(f"input.methods, {method!r}: {why}" for method, why in failures.items())
    return PromptRejected(message, for_good=True, tried=tried)


def normalised(text: str) -> str:
    """Return the text with newlines of one kind: that is what a textarea makes of them."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


class _NotPossible(TabfleetError):
    """A way to fill an input is none for this one; the message says why."""


@dataclass(frozen=True)
class _Held:
    """What an input holds. `rich`: it is a contenteditable."""

    text: str
    rich: bool = False


async def _fill(page: Page, field: Input, method: str, text: str) -> _Held:
    """Fill the input and return what it then holds."""
    if method == "setter":
        return await _set_value(page, field.selector, text)
    element = locate(page, field.selector)
    await element.wait_for(state="visible", timeout=INPUT_TIMEOUT_MS)
    # What a draft or another method left would become a part of the prompt, or change how an editor takes it.
    is_empty = await _empty(page, element)
    match method:
        case "fill":
            await element.fill(text, timeout=FILL_TIMEOUT_MS)
        case "insert_text":
            await element.evaluate(scripts.SELECT_ALL)
            await page.keyboard.insert_text(text)
        case "paste":
            await element.evaluate(scripts.SELECT_ALL)
            await element.evaluate(scripts.PASTE, {"text": text})
        case "lines":
            if not is_empty:
                raise _NotPossible("the input cannot be emptied, so that no key is tried in it")
            return await _enter_lines(page, element, field.line_break or "", text)
    return await _read_back(element)


async def _set_value(page: Page, selector: str, text: str) -> _Held:
    held: str | None = await page.evaluate(scripts.SET_VALUE, [path_or_none(selector), text])
    if held is None:  # the element may not be there yet, or be one that Playwright must find
        element = locate(page, selector)
        await element.wait_for(state="visible", timeout=INPUT_TIMEOUT_MS)
        held = await element.evaluate(scripts.SET_VALUE_OF, text)
    if held is None:
        raise _NotPossible("the element is no input or textarea that can be written to")
    return _Held(held)


async def _empty(page: Page, element: Locator) -> bool:
    """Empty the input by keys, as its editor expects it, else by a script. Returns whether it is empty."""
    if await element.evaluate(scripts.IS_EMPTY):
        return True
    await element.evaluate(scripts.SELECT_ALL)
    # An editor with a selection of its own learns of the script's only later.
    await page.keyboard.press("ControlOrMeta+a")
    await page.keyboard.press("Backspace")
    if not (await _read_back(element)).text:
        return True
    await element.evaluate(scripts.DELETE_ALL)
    is_empty = not (await _read_back(element)).text
    if not is_empty:
        log.info("prompt_input_not_emptied")
    return is_empty


async def _enter_lines(page: Page, element: Locator, key: str, text: str) -> _Held:
    """Put the lines in with what `key` makes between them: all at once, or where that fails with the key itself.

    The key is tried first on the empty input: where it sends instead, there is nothing to send yet.
    """
    lines = text.split("\n")
    if len(lines) > 1:
        await element.evaluate(scripts.SELECT_ALL)
        await page.keyboard.press(key)
        made: str | None = await element.evaluate(scripts.BROKEN_LINE)
        if made is None or not await _empty(page, element):
            raise _NotPossible(f"the key {key!r} breaks no line in the input")
        await element.evaluate(scripts.SELECT_ALL)
        await element.evaluate(scripts.PASTE, {"text": text, "html": _as_html(lines, made)})
        held = await _read_back(element)
        if difference(text, normalised(held.text), rich=held.rich) is None:
            return held
        if not await _empty(page, element):
            raise _NotPossible("the input cannot be emptied")
    await element.evaluate(scripts.SELECT_ALL)
    for number, line in enumerate(lines):
        if number:
            await page.keyboard.press(key)
        if line:
            await page.keyboard.insert_text(line)
    return await _read_back(element)


def _as_html(lines: Sequence[str], made: str) -> str:
    """Return lines as an editor copies them, with what it makes of a line break: `br`, or `blocks`.

    The attribute is ProseMirror's: it has it keep the spaces, which it would otherwise fold.
    """
    escaped = [escape(line, quote=False) for line in lines]
    if made == "br":
        return f'<p data-pm-slice="1 1 []">{"<br>".join(escaped)}</p>'
    first, *rest = escaped
    blocks = "".join(f"<p>{line}</p>" for line in rest)
    return f'<p data-pm-slice="1 1 []">{first}</p>{blocks}'


async def _read_back(element: Locator) -> _Held:
    text, rich = await element.evaluate(scripts.READ_BACK)
    return _Held(text, rich=rich)

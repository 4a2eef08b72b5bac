"""The baseline: a minimal Playwright script that uses the same page in the same browser, without the product.

As a program it opens the page of a ScriptPlan, given as JSON, prints "ready" when the page shows that it is logged in,
and exits at the end of its stdin. It imports nothing of the product, so that its memory is that of Playwright.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

SET_VALUE = """([selector, text]) => {
  const element = document.querySelector(selector);
  const prototype = element.tagName === "TEXTAREA" ? HTMLTextAreaElement.prototype : HTMLInputElement.prototype;
  element.focus();
  Object.getOwnPropertyDescriptor(prototype, "value").set.call(element, text);
  element.dispatchEvent(new Event("input", { bubbles: true }));
}"""

# Notes when the page's own script is given each token of its own stream, and when the document first shows it, in
# milliseconds of performance.now(). It stands before the page's handlers, and looks only at what is new.
NOTE_TIMES = r"""(() => {
  const noted = { received: {}, shown: {} };
  const decoder = new TextDecoder();
  window.__noted = noted;
  const note = (times, data) => {
    const now = performance.now();
    const text = typeof data === "string" ? data : data instanceof Uint8Array ? decoder.decode(data) : "";
    for (const [, number] of text.matchAll(/token(\d+)/g)) times[number] ??= now;
  };
  const read = ReadableStreamDefaultReader.prototype.read;
  ReadableStreamDefaultReader.prototype.read = function (...given) {
    const reading = read.apply(this, given);
    reading.then(({ value }) => note(noted.received, value), () => {});
    return reading;
  };
  for (const name of ["WebSocket", "EventSource"]) {
    window[name] = class extends window[name] {
      constructor(...given) {
        super(...given);
        super.addEventListener("message", (event) => note(noted.received, event.data));
      }
    };
  }
  const look = (changes) => {
    for (const { type, target, addedNodes } of changes) {
      if (type === "characterData") note(noted.shown, target.data);
      for (const node of addedNodes) note(noted.shown, node.textContent);
    }
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
})()"""
# A new conversation may be in the same document, and its tokens have the same numbers.
TAKE_TIMES = """() => {
  const { received, shown } = window.__noted;
  Object.assign(window.__noted, { received: {}, shown: {} });
  return [received, shown];
}"""
CLOCK_LOOKS = 50


@dataclass(frozen=True)
class PageTimes:
    """When a page's script received each token, and when the page showed it, by number; time.monotonic()."""

    received: Mapping[int, float]
    shown: Mapping[int, float]


@dataclass(frozen=True)
class ScriptPlan:
    """Launch options and storage state for Playwright, the page to open, and the selectors that show it is ready."""

    engine: str
    launch: dict[str, Any]
    state: dict[str, Any]
    address: str
    selectors: Sequence[str]

    def command(self) -> list[str]:
        """Return the command that runs this module on this plan."""
        return [sys.executable, "-m", "benchmarks.pages.bare_script", json.dumps(asdict(self))]


@dataclass(frozen=True)
class ScriptSteps:
    """The steps of a site file, as the script runs them."""

    fresh: Sequence[dict[str, str]]
    choose: Sequence[dict[str, str]]
    send: Sequence[dict[str, str]]
    input: str
    answering: str


@contextlib.asynccontextmanager
async def open_browser(plan: ScriptPlan) -> AsyncIterator[Browser]:
    """Yield a new browser."""
    async with async_playwright() as playwright:
        browser = await playwright[plan.engine].launch(**plan.launch)
        yield browser
        await browser.close()


async def open_context(browser: Browser, plan: ScriptPlan, *, note_times: bool = False) -> Page:
    """Return the page, logged in, in a context of its own; with `note_times` it notes when it gets its tokens."""
    context = await browser.new_context(storage_state=plan.state)  # type: ignore[arg-type]
    page = await context.new_page()
    if note_times:
        await page.add_init_script(NOTE_TIMES)
    await page.goto(plan.address, wait_until="domcontentloaded")
    for selector in plan.selectors:
        await page.wait_for_selector(selector)
    return page


@contextlib.asynccontextmanager
async def open_page(plan: ScriptPlan, *, note_times: bool = False) -> AsyncIterator[Page]:
    """Yield the page, logged in, in a new browser."""
    async with open_browser(plan) as browser:
        yield await open_context(browser, plan, note_times=note_times)


class PageScript:
    """Submit prompts on an open page, step by step."""

    def __init__(self, page: Page, plan: ScriptPlan, steps: ScriptSteps) -> None:
        self._page = page
        self._plan = plan
        self._steps = steps

    async def ask(self, prompt: str) -> tuple[float, float]:
        """Submit a prompt. Return when that began, and when a new conversation was open; time.monotonic()."""
        began = time.monotonic()
        await self._run(self._steps.fresh)
        for selector in self._plan.selectors:
            await self._page.wait_for_selector(selector)
        fresh = time.monotonic()
        await self._run(self._steps.choose)
        await self._page.evaluate(SET_VALUE, [self._steps.input, prompt])
        await self._run(self._steps.send)
        return began, fresh

    async def times(self) -> PageTimes:
        """Return the times of the tokens that the document has received and shown since it was last asked."""
        received, shown = await self._page.evaluate(TAKE_TIMES)
        begun = await self._origin()
        return PageTimes(
            *({int(number): begun + at / 1e3 for number, at in noted.items()} for noted in (received, shown))
        )

    async def _origin(self) -> float:
        """Return the origin of the page's clock, by time.monotonic(): half the shortest of many looks off, at most.

        Not by performance.timeOrigin, which is wall time as it was when the browser started, whatever became of it.
        """
        looks: list[tuple[float, float]] = []
        for _ in range(CLOCK_LOOKS):
            began = time.monotonic()
            now: float = await self._page.evaluate("() => performance.now()")
            took = time.monotonic() - began
            looks.append((took, began + took / 2 - now / 1e3))
        return min(looks)[1]

    async def wait_for_answer(self) -> None:
        """Wait until the page no longer shows an answer in progress."""
        await self._page.wait_for_selector(self._steps.answering, state="hidden")

    async def _run(self, steps: Sequence[dict[str, str]]) -> None:
        for step in steps:
            (verb, target), *_ = step.items()
            match verb:
                case "goto":
                    await self._page.goto(target, wait_until="domcontentloaded")
                case "click":
                    await self._page.click(target)
                case "press":
                    await self._page.press(self._steps.input, target)
                case "select":
                    await self._page.select_option(target, step["value"])
                case _:
                    raise ValueError(f"the bare script does not implement the step {verb}")


async def _main(plan: ScriptPlan) -> None:
    async with open_page(plan):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(ScriptPlan(**json.loads(sys.argv[1]))))

"""A bare Playwright script on the same page in the same browser: what a person would write, without the product.

As a program it opens the page of a Plan, given as JSON, says "ready" when the page shows that it is logged in, and
ends when its input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from playwright.async_api import Page, async_playwright

SET_VALUE = """([selector, text]) => {
  const element = document.querySelector(selector);
  const prototype = element.tagName === "TEXTAREA" ? HTMLTextAreaElement.prototype : HTMLInputElement.prototype;
  element.focus();
  Object.getOwnPropertyDescriptor(prototype, "value").set.call(element, text);
  element.dispatchEvent(new Event("input", { bubbles: true }));
}"""


@dataclass(frozen=True)
class Plan:
    """What to launch, as Playwright takes it, and the page to open; the selectors tell that it is ready."""

    engine: str
    launch: dict[str, Any]
    state: dict[str, Any]
    address: str
    selectors: Sequence[str]

    def command(self) -> list[str]:
        """The program that opens this page."""
        return [sys.executable, "-m", "benchmarks.pages.bare", json.dumps(asdict(self))]


@dataclass(frozen=True)
class Steps:
    """What the site file says, as steps of Playwright's own."""

    fresh: Sequence[dict[str, str]]
    choose: Sequence[dict[str, str]]
    send: Sequence[dict[str, str]]
    input: str
    answering: str


@contextlib.asynccontextmanager
async def opened(plan: Plan) -> AsyncIterator[Page]:
    """The page, logged in, in a browser of its own."""
    async with async_playwright() as playwright:
        browser = await playwright[plan.engine].launch(**plan.launch)
        context = await browser.new_context(storage_state=plan.state)  # type: ignore[arg-type]
        page = await context.new_page()
        await page.goto(plan.address, wait_until="domcontentloaded")
        for selector in plan.selectors:
            await page.wait_for_selector(selector)
        yield page
        await browser.close()


class Script:
    """Asks on an open page, step by step."""

    def __init__(self, page: Page, plan: Plan, steps: Steps) -> None:
        self._page = page
        self._plan = plan
        self._steps = steps

    async def ask(self, prompt: str) -> tuple[float, float]:
        """Send a prompt. Returns when that began, and when an empty conversation was open: time.monotonic()."""
        began = time.monotonic()
        await self._run(self._steps.fresh)
        for selector in self._plan.selectors:
            await self._page.wait_for_selector(selector)
        fresh = time.monotonic()
        await self._run(self._steps.choose)
        await self._page.evaluate(SET_VALUE, [self._steps.input, prompt])
        await self._run(self._steps.send)
        return began, fresh

    async def rest(self) -> None:
        """Return when the page no longer writes an answer."""
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
                    raise ValueError(f"the bare script does not know the step {verb}")


async def _main(plan: Plan) -> None:
    async with opened(plan):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(Plan(**json.loads(sys.argv[1]))))

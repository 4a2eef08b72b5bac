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
async def open_page(plan: ScriptPlan) -> AsyncIterator[Page]:
    """Yield the page, logged in, in a new browser."""
    async with async_playwright() as playwright:
        browser = await playwright[plan.engine].launch(**plan.launch)
        context = await browser.new_context(storage_state=plan.state)  # type: ignore[arg-type]
        page = await context.new_page()
        await page.goto(plan.address, wait_until="domcontentloaded")
        for selector in plan.selectors:
            await page.wait_for_selector(selector)
        yield page
        await browser.close()


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

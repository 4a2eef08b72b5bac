"""A login's page opened by a bare Playwright script in a browser that runs: what the engine itself takes for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from playwright.async_api import Browser

from benchmarks.pages.bare_script import ScriptPlan, open_browser, open_context

LARGEST_COST = "the largest remaining cost is the engine's: a context, its page, and the site's document"
"""Of what opens a login's page in a browser that runs, and takes about as long as the bare script."""


class BareContexts:
    """Opens and closes contexts in one browser, and times each until its page shows that it is logged in."""

    def __init__(self, runner: asyncio.Runner, browser: Browser, plan: ScriptPlan) -> None:
        self._runner, self._browser, self._plan = runner, browser, plan

    def open_s(self) -> float:
        """Return the seconds that one took."""
        return self._runner.run(self._open_s())

    async def _open_s(self) -> float:
        began = time.monotonic()
        page = await open_context(self._browser, self._plan)
        took_s = time.monotonic() - began
        await page.context.close()
        return took_s


@contextlib.contextmanager
def bare_contexts(plan: ScriptPlan) -> Iterator[BareContexts]:
    """Run a browser while the context lasts."""
    with asyncio.Runner() as runner:
        browsers = contextlib.AsyncExitStack()
        try:
            yield BareContexts(runner, runner.run(browsers.enter_async_context(open_browser(plan))), plan)
        finally:
            runner.run(browsers.aclose())

"""The steps of a check in a tab beside the page in service: the same login, and nothing of that page is touched."""

from __future__ import annotations

import asyncio
import time
import tomllib
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from playwright.async_api import Error

from browser.capture.capture import Capture
from browser.check.context import PROMPT, CheckContext, CheckPlan
from browser.check.outcome import Exit, StepFailed
from browser.check.steps import OPENING, SENDING, UNSENT, Step, run_step
from browser.errors import BrowserError, SiteError, StreamPortTaken
from browser.page.site_page import SitePage
from browser.page.tab import Tab
from browser.settings import BrowserSettings, EngineName
from browser.site.load import parse_site
from browser.site.schema import Site
from browser.timeouts import finish
from contract.site_check import CHECK_TIMEOUT_S, CheckedStep, CheckOutcome, SiteCheck
from contract.toml_lines import key_lines, line_of

_OUTCOMES = {
    Exit.FAILED: CheckOutcome.CHANGED,
    Exit.LOGGED_OUT: CheckOutcome.LOGGED_OUT,
    Exit.REFUSED: CheckOutcome.REFUSED,
}
"""What the way in which a step failed says of the page; any other says nothing."""


class PageBeside(SitePage):
    """A tab of its own in the context of another page, with a capture of its own."""

    def __init__(self, other: SitePage, site: Site, capture: Capture) -> None:
        # It does not log in: sites limit how often one may.
        super().__init__(
            other.browser, other.context, site, capture, lambda: None, log_in=None, own_proxy=other.own_proxy
        )
        self._surroundings = other.surroundings
        self._other = other
        self._own_capture = capture
        self._exit = AsyncExitStack()

    async def open_tab(self) -> Tab:
        """Open the tab. Raises Playwright's Error and TimeoutError."""
        page = await self._exit.enter_async_context(self._other.beside())
        self._tab = Tab(page, self._site, capture=self._own_capture)
        await page.add_init_script(self._own_capture.init_script())
        return self._tab

    async def close_tab(self) -> None:
        """Close the tab, whatever it is doing."""
        await self._exit.aclose()


async def check_beside(
    other: SitePage, file: str, text: str, *, engine: EngineName, settings: BrowserSettings
) -> SiteCheck:
    """Check a site file of this name and text in a tab beside a page that is open; the tab is closed in the end.

    A prompt is sent only if the site file has one for this. `settings.site_url` replaces the file's address. What goes
    wrong is an outcome. A caller that does not want to wait any longer cancels it, and then has the page alone again.
    """
    try:
        site = parse_site(text, file, url=settings.site_url)
    except SiteError as error:
        return SiteCheck(CheckOutcome.INVALID, str(error), file=file)
    plan = CheckPlan(
        site=file,
        profile=None,
        engine=engine,
        headless=True,
        settings=settings,
        prompt=site.check.prompt or PROMPT,
        stop_prompt="",
        model=None,
        sends=site.check.prompt is not None,
    )
    context = CheckContext(plan, site, Path())
    page = PageBeside(other, site, context.capture)
    context.site_page = page
    answer_s = settings.first_token_timeout_s + settings.stream_idle_timeout_s if plan.sends else 0.0
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S + answer_s):
            await context.stream_port.start()
            await context.stream_port.serving()
            return await _run(context, file, text)
    except TimeoutError:
        return SiteCheck(CheckOutcome.GIVEN_UP, "the check took too long", file=file)
    except StreamPortTaken as error:  # another program was faster
        return SiteCheck(CheckOutcome.GIVEN_UP, str(error), file=file)
    finally:
        await finish(_close(context, page), "check-close")


async def _run(context: CheckContext, file: str, text: str) -> SiteCheck:
    done: list[CheckedStep] = []
    steps = [*OPENING, *(SENDING if context.plan.sends else UNSENT)]
    for step in steps:
        if not step.beside:
            continue
        began = time.monotonic()
        try:
            mark = (await run_step(context, step)).mark
        except StepFailed as failure:
            done.append(CheckedStep(step.name, "fail", round(time.monotonic() - began, 3)))
            return _told(step, failure, file, text, tuple(done))
        done.append(CheckedStep(step.name, mark, round(time.monotonic() - began, 3)))
    return SiteCheck(CheckOutcome.PASSED, file=file, steps=tuple(done))


def _told(step: Step, failure: StepFailed, file: str, text: str, done: tuple[CheckedStep, ...]) -> SiteCheck:
    """Return the result of a step that failed, with the place in the site file that is most likely to blame."""
    outcome = _OUTCOMES.get(failure.code, CheckOutcome.GIVEN_UP)
    if failure.site_is_away:
        outcome = CheckOutcome.UNREACHABLE
    # What the site says of an answer may be anybody's words.
    message = "the step failed" if step in SENDING else str(failure)
    key = failure.keys[0] if failure.keys else None
    if key is None:
        return SiteCheck(outcome, message, step.name, file, steps=done)
    path = tuple(int(part) if part.isdigit() else part for part in key.split("."))
    shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    # Everybody may see the result, and an address can be a secret.
    value = None if path[-1] in ("url", "goto") else _value_at(tomllib.loads(text), path)
    selector = value if isinstance(value, str) else None
    return SiteCheck(outcome, message, step.name, file, line_of(key_lines(text), path), shown, selector, done)


def _value_at(data: Any, path: tuple[str | int, ...]) -> Any:
    """Return what stands in the file at a path; None if it has only a default there."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


async def _close(context: CheckContext, page: PageBeside) -> None:
    with suppress(Error, BrowserError, TimeoutError):  # the page may be gone, and the browser with it
        await context.close()
    await page.close_tab()

"""The whole check: its steps in order, until one fails."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from playwright.async_api import Error

from browser.check import steps_answer, steps_open, steps_prompt
from browser.check.context import CheckContext, CheckPlan
from browser.check.outcome import Exit, StepFailed, StepReport, StepResult, exit_code_of
from browser.check.screen import Screen
from browser.errors import BrowserError, BrowserLost, SiteError
from browser.site.load import Site, find_site, load_site, read_site_file
from contract.toml_lines import key_lines


@dataclass(frozen=True)
class Step:
    """One step; `keys` are what to look at in the site file when it fails."""

    name: str
    work: Callable[[CheckContext], Awaitable[StepResult]]
    keys: tuple[str, ...] = ()


OPENING = (
    Step("login file", steps_open.read_login),
    Step("browser", steps_open.start_browser),
    Step("page", steps_open.open_page, ("url",)),
    Step("logged in", steps_open.logged_in, ("login.logged_in", "login.logged_out", "readiness.selector")),
    Step("login check", steps_open.check_login, ("login.check",)),
    Step("login refresh", steps_open.refresh, ("login.refresh",)),
    Step("logged out", steps_open.without_login, ("login.logged_in", "login.logged_out")),
    Step("capture", steps_open.test_capture, ("capture",)),
    Step("fresh chat", steps_prompt.fresh_chat, ("fresh_chat",)),
    Step("models", steps_prompt.choose_models, ("models",)),
    Step("input", steps_prompt.fill, ("input",)),
)
SENDING = (
    Step("send", steps_prompt.send, ("send",)),
    Step("first event", steps_answer.first_event, ("capture.network.url", "capture.dom.answer")),
    Step(
        "first text",
        steps_answer.first_text,
        ("capture.network.start", "capture.network.text", "capture.network.whole", "capture.dom.answer"),
    ),
    Step("end", steps_answer.end, ("capture.network.end", "capture.network.end_data", "capture.dom.done")),
    Step("sent prompt", steps_prompt.sent_prompt, ("send.prompt",)),
    Step("page's text", steps_answer.page_text, ("capture.dom.answer", "capture.dom.ignore", "capture.dom.read")),
    Step("fresh again", steps_prompt.fresh_chat, ("fresh_chat",)),
    Step("stop", steps_answer.stop, ("stop.answering", "stop.actions")),
    Step("fresh again", steps_prompt.fresh_chat, ("fresh_chat",)),
)


# Some failures can come in any step, and are not about its keys.
_KEYS_OF: dict[Exit, tuple[str, ...]] = {
    Exit.REFUSED: ("refusals",),
    Exit.LOGGED_OUT: ("login.logged_in", "login.logged_out", "login.check", "login.lost"),
    Exit.BROWSER_LOST: (),
    Exit.PROFILE_LOCKED: (),
    Exit.NO_BROWSER: (),
}


class Checkup:
    """Runs the check and shows it."""

    def __init__(self, plan: CheckPlan, screen: Screen, run_dir: Path, report_dir: Path | None) -> None:
        self._plan = plan
        self._screen = screen
        self._run_dir = run_dir
        self._report_dir = report_dir
        self._file = ""
        self._lines: dict[str, int] = {}
        self._notes: list[str] = []

    async def run(self) -> Exit:
        """Return how it went; what fails is shown, never raised. Raises OSError if evidence cannot be saved."""
        # The product's log has no place on this screen: its warnings become notes of the step that they come in.
        logging_before = structlog.get_config()
        structlog.configure(processors=[self._note])
        try:
            return await self._run()
        finally:
            structlog.configure(**logging_before)

    async def _run(self) -> Exit:
        began = time.monotonic()
        try:
            site = self._load_site()
        except BrowserError as error:
            self._fail("site file", error, began)
            return Exit.USAGE
        context = CheckContext(self._plan, site, self._run_dir)
        self._show("site file", StepResult(f"{site.name}: {site.url}"), began)
        code = Exit.PASSED
        steps = [*OPENING, *SENDING] if self._plan.sends else [*OPENING]
        try:
            while steps and code is Exit.PASSED:
                code = await self._run_step(context, steps.pop(0))
            if steps:
                self._screen.hint(f"not tried: {', '.join(dict.fromkeys(step.name for step in steps))}")
            if context.page and (code is not Exit.PASSED or self._report_dir):
                folder, names = await context.save(self._report_dir)
                self._screen.hint(f"saved in {folder}: {', '.join(names)}")
                self._screen.hint(
                    "only you may read them; they may hold what the page shows: delete them when you are done"
                )
        finally:
            with self._screen.running("closing the browser"):
                await context.close()
        return code

    def _note(self, _: Any, level: str, event: MutableMapping[str, Any]) -> str:
        """Keep the browser's own warnings for the step that they come in."""
        if level in ("warning", "error", "critical"):
            name = str(event.pop("event", "")).replace("_", " ")
            self._notes.append(": ".join(filter(None, [name, ", ".join(map(str, event.values()))])))
        raise structlog.DropEvent

    def _load_site(self) -> Site:
        """Load the site file, and note where its keys stand. Raises SiteError."""
        path, site = find_site(self._plan.site), load_site(self._plan.site)
        if self._plan.model is not None and self._plan.model not in site.models:
            raise SiteError(f"the site file has no model {self._plan.model!r}; it has {', '.join(site.models)}")
        self._file = os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)
        lines = key_lines(read_site_file(path))
        self._lines = {".".join(map(str, key)): line for key, line in lines.items()}
        return site

    async def _run_step(self, context: CheckContext, step: Step) -> Exit:
        began = time.monotonic()
        try:
            with self._screen.running(step.name):
                result = await step.work(context)
        except StepFailed as failure:
            error = failure
        except BrowserError as lost:
            return self._fail(step.name, lost, began, step.keys)
        except Error as of_playwright:
            error = StepFailed(of_playwright.message.splitlines()[0])
        else:
            self._show(step.name, result, began)
            return Exit.PASSED
        # A browser that died fails whatever step it is in; the site file is not to blame for that.
        if error.code is Exit.FAILED and context.host and await context.host.is_lost_soon():
            return self._fail(step.name, BrowserLost("the browser died"), began, step.keys)
        return self._fail(step.name, error, began, step.keys)

    def _fail(self, name: str, error: BrowserError | StepFailed, began: float, keys: tuple[str, ...] = ()) -> Exit:
        if isinstance(error, BrowserError):
            error = StepFailed(str(error), code=exit_code_of(error))
        about_login = any(key.startswith("login.") for key in keys)
        found = error.keys or (keys if about_login else _KEYS_OF.get(error.code, keys))
        self._show(name, StepResult(str(error), "fail", error.hints, found), began)
        return error.code

    def _show(self, name: str, result: StepResult, began: float) -> None:
        hints = [*result.hints]
        if places := [f"line {self._lines[key]} ({key})" for key in result.keys if key in self._lines]:
            hints.append(f"look at {self._file}, {', '.join(places)}")
        hints += [f"note: {note}" for note in self._notes]
        self._notes.clear()
        self._screen.show(StepReport(name, replace(result, hints=tuple(hints)), time.monotonic() - began))

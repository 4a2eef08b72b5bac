"""The whole check: its steps in order, until one fails."""

from __future__ import annotations

import os
import time
from collections.abc import MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from browser.check.context import CheckContext, CheckPlan
from browser.check.outcome import Exit, StepFailed, StepReport, StepResult, exit_code_of
from browser.check.screen import Screen
from browser.check.steps import OPENING, SENDING, UNSENT, Step, run_step
from browser.errors import BrowserError, SiteError
from browser.site.load import Site, find_site, load_site, read_site_file
from contract.toml_lines import key_lines


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
            return self._fail("site file", StepFailed(str(error), code=exit_code_of(error)), began)
        context = CheckContext(self._plan, site, self._run_dir)
        self._show("site file", StepResult(f"{site.name}: {site.url}"), began)
        code = Exit.PASSED
        steps = [*OPENING, *(SENDING if self._plan.sends else UNSENT)]
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
                result = await run_step(context, step)
        except StepFailed as failure:
            return self._fail(step.name, failure, began)
        self._show(step.name, result, began)
        return Exit.PASSED

    def _fail(self, name: str, error: StepFailed, began: float) -> Exit:
        self._show(name, StepResult(str(error), "fail", error.hints, error.keys), began)
        return error.code

    def _show(self, name: str, result: StepResult, began: float) -> None:
        hints = [*result.hints]
        if places := [f"line {self._lines[key]} ({key})" for key in result.keys if key in self._lines]:
            hints.append(f"look at {self._file}, {', '.join(places)}")
        hints += [f"note: {note}" for note in self._notes]
        self._notes.clear()
        self._screen.show(StepReport(name, replace(result, hints=tuple(hints)), time.monotonic() - began))

"""The whole check: its steps in order, until one fails."""

import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from playwright.async_api import Error

from browser.check import answering, asking, opening
from browser.check.evidence import report_folder, save_evidence
from browser.check.outcome import Exit, Outcome, StepFailed, Told, exit_code_of
from browser.check.screen import Screen
from browser.check.stage import Plan, Stage
from browser.errors import BrowserError, BrowserLost, SiteError
from browser.site.load import Site, find_site, load_site
from browser.site.toml_lines import key_lines


@dataclass(frozen=True)
class Step:
    """One step; `keys` are what to look at in the site file when it fails."""

    name: str
    work: Callable[[Stage], Awaitable[Told]]
    keys: tuple[str, ...] = ()


OPENING = (
    Step("login file", opening.read_login),
    Step("browser", opening.start_browser),
    Step("page", opening.open_page, ("url",)),
    Step("logged in", opening.logged_in, ("login.logged_in", "login.logged_out", "readiness.selector")),
    Step("login check", opening.check_login, ("login.check",)),
    Step("logged out", opening.without_login, ("login.logged_in", "login.logged_out")),
    Step("capture", opening.test_capture, ("capture",)),
    Step("fresh chat", asking.fresh_chat, ("fresh_chat",)),
    Step("models", asking.choose_models, ("models",)),
    Step("input", asking.fill, ("input",)),
)
SENDING = (
    Step("send", asking.send, ("send",)),
    Step("first event", answering.first_event, ("capture.network.url", "capture.dom.answer")),
    Step(
        "first text",
        answering.first_text,
        ("capture.network.start", "capture.network.text", "capture.network.whole", "capture.dom.answer"),
    ),
    Step("end", answering.end, ("capture.network.end", "capture.network.end_data", "capture.dom.done")),
    Step("page's text", answering.page_text, ("capture.dom.answer", "capture.dom.ignore", "capture.dom.read")),
    Step("fresh again", asking.fresh_chat, ("fresh_chat",)),
    Step("stop", answering.stop, ("stop.answering", "stop.actions")),
    Step("fresh again", asking.fresh_chat, ("fresh_chat",)),
)


class Checkup:
    """Runs the check and shows it."""

    def __init__(self, plan: Plan, screen: Screen, run_dir: Path, report_dir: Path | None) -> None:
        self._plan = plan
        self._screen = screen
        self._run_dir = run_dir
        self._report_dir = report_dir
        self._file = ""
        self._lines: dict[str, int] = {}
        self._notes: list[str] = []

    async def run(self) -> Exit:
        """Return how it went; what fails is shown, never raised. Raises OSError if evidence cannot be saved."""
        logging_before = structlog.get_config()
        structlog.configure(processors=[self._note])
        try:
            return await self._run()
        finally:
            structlog.configure(**logging_before)

    async def _run(self) -> Exit:
        began = time.monotonic()
        try:
            stage = Stage(self._plan, self._load_site(), self._run_dir)
        except (BrowserError, StepFailed) as error:
            self._fail("site file", error, began)
            return Exit.USAGE
        self._show("site file", Told(f"{stage.site.name}: {stage.site.url}"), began)
        try:
            code = await self._run_steps(stage)
            if code is not Exit.PASSED or self._report_dir:
                await self._save(stage)
        finally:
            with self._screen.running("closing the browser"):
                await stage.close()
        return code

    def _note(self, _: Any, level: str, event: MutableMapping[str, Any]) -> str:
        """Keep the browser's own warnings for the step that they come in."""
        if level in ("warning", "error", "critical"):
            name = str(event.pop("event", "")).replace("_", " ")
            self._notes.append(": ".join(filter(None, [name, ", ".join(map(str, event.values()))])))
        raise structlog.DropEvent

    def _load_site(self) -> Site:
        path = find_site(self._plan.site)
        site = load_site(self._plan.site)
        if self._plan.model is not None and self._plan.model not in site.models:
            raise SiteError(f"the site file has no model {self._plan.model!r}; it has {', '.join(site.models)}")
        self._file = os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)
        lines = key_lines(path.read_text(encoding="utf-8"))
        self._lines = {".".join(map(str, key)): line for key, line in lines.items()}
        return site

    async def _run_steps(self, stage: Stage) -> Exit:
        steps = (*OPENING, *SENDING) if self._plan.sends else OPENING
        for at, step in enumerate(steps):
            code = await self._run_step(stage, step)
            if code is not Exit.PASSED:
                rest = ", ".join(dict.fromkeys(later.name for later in steps[at + 1 :]))
                if rest:
                    self._screen.hint(f"not tried: {rest}")
                return code
        return Exit.PASSED

    async def _run_step(self, stage: Stage, step: Step) -> Exit:
        began = time.monotonic()
        try:
            with self._screen.running(step.name):
                told = await step.work(stage)
        except StepFailed as error:
            lost = await self._loss(stage) if error.code is Exit.FAILED else None
            return self._fail(step.name, lost or error, began, step.keys)
        except BrowserError as error:
            return self._fail(step.name, error, began, step.keys)
        except Error as error:
            lost = await self._loss(stage)
            return self._fail(step.name, lost or StepFailed(error.message.splitlines()[0]), began, step.keys)
        self._show(step.name, told, began)
        return Exit.PASSED

    async def _loss(self, stage: Stage) -> BrowserLost | None:
        if stage.host and await stage.host.is_lost_soon():
            return BrowserLost("the browser died")
        return None

    def _fail(self, name: str, error: BrowserError | StepFailed, began: float, keys: tuple[str, ...] = ()) -> Exit:
        hints = error.hints if isinstance(error, StepFailed) else ()
        code = error.code if isinstance(error, StepFailed) else exit_code_of(error)
        self._show(
            name,
            Told(str(error), "fail", (*hints, *self._look_at(("refusals",) if code is Exit.REFUSED else keys))),
            began,
        )
        return code

    def _look_at(self, keys: tuple[str, ...]) -> list[str]:
        """Say where in the site file these keys stand, as far as they do."""
        places = [f"line {self._lines[key]} ({key})" for key in keys if key in self._lines]
        return [f"look at {self._file}, {', '.join(places)}"] if places else []

    def _show(self, name: str, told: Told, began: float) -> None:
        hints = (*told.hints, *(f"note: {note}" for note in self._notes))
        self._notes.clear()
        self._screen.show(Outcome(name, replace(told, hints=hints), time.monotonic() - began))

    async def _save(self, stage: Stage) -> None:
        if stage.page is None:
            return
        folder = report_folder(self._report_dir)
        names = await save_evidence(stage, folder)
        self._screen.hint(f"saved in {folder}: {', '.join(names)}")
        self._screen.hint("only you may read them; they may hold what the page shows: delete them when you are done")

"""One engine on one site: ours and the bare script in turn, round by round."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.alone import child_alone
from benchmarks.pages.asking import Asked, ask
from benchmarks.pages.bare import Plan, Script, opened
from benchmarks.pages.memory import Parts, parts
from benchmarks.pages.plan import plan, steps
from benchmarks.pages.site import Notes, StampedApp, stamped_app
from benchmarks.watching import until
from browser.settings import EngineName
from tests.e2e.fleet import ROOT, Fleet, Site, end, fetch, fleet
from tests.support.ports import NOWHERE

STARTS = 5
ANSWERS = 5
TOKENS, PAUSE_MS = 200, 20
SUBMISSIONS = 7
LINES = 2000
CHILD = "ada"


@dataclass
class Submitted:
    """Milliseconds until the app had the prompt: through the API, and by the script with and without its fresh chat."""

    ours: list[float] = field(default_factory=list)
    script: list[float] = field(default_factory=list)
    fill_and_send: list[float] = field(default_factory=list)


@dataclass
class Found:
    """Milliseconds, and MB. `late` has one list an answer: how late each token of it was.

    Memory is measured as soon as either is ready, and once more after all answers.
    """

    start: list[float] = field(default_factory=list)
    bare_start: list[float] = field(default_factory=list)
    late: list[list[float]] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    short: Submitted = field(default_factory=Submitted)
    long: Submitted = field(default_factory=Submitted)
    memory: list[Parts] = field(default_factory=list)
    memory_after: list[Parts] = field(default_factory=list)
    bare_memory: list[Parts] = field(default_factory=list)


def measure(console: Console, engine: EngineName, name: str) -> Found:
    """Run everything on one engine and site."""
    found, label = Found(), f"pages: {engine}, {name}"
    with tempfile.TemporaryDirectory(prefix="tf-", dir="/tmp") as folder, stamped_app(name, Path(folder)) as app:
        login = _login(app, Path(folder) / "active" / f"{CHILD}.json")
        bare = plan(app, engine)
        for number in track(range(STARTS + 1), f"{label}, starts", console=console, transient=True):
            _start(app, engine, login, bare, found if number else Found())  # the first of each warms the caches
        with _running(app, login.parent, engine) as running, asyncio.Runner() as runner:
            for _ in track(range(ANSWERS), f"{label}, answers", console=console, transient=True):
                _answer(app, running, found)
            page = _Bare(app, bare, runner)
            for number in track(range(SUBMISSIONS), f"{label}, prompts", console=console, transient=True):
                _submit(app, running, page, found, number)
            page.close()
            found.memory_after.append(parts(running.child_pid(CHILD)))
    return found


def _login(app: StampedApp, path: Path) -> Path:
    path.parent.mkdir(mode=0o700)
    path.write_text(json.dumps(app.log_in()), encoding="utf-8")
    path.chmod(0o600)
    return path


def _start(app: StampedApp, engine: EngineName, login: Path, bare: Plan, found: Found) -> None:
    with child_alone(app.name, app.address, login, engine, HTTPS_PROXY=NOWHERE) as child:
        found.start.append(child.took_s * 1e3)
        found.memory.append(parts(child.pid))
    began = time.monotonic()
    command = bare.command()
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout  # noqa: S101 - for the type checker
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the bare script did not open the page")
        found.bare_start.append((time.monotonic() - began) * 1e3)
        found.bare_memory.append(parts(process.pid))
        assert process.stdin  # noqa: S101 - for the type checker
        process.stdin.close()
        process.wait()
    finally:
        end(process)


@contextlib.contextmanager
def _running(app: StampedApp, profiles: Path, engine: EngineName) -> Iterator[Fleet]:
    settings: dict[str, Any] = {"CHAT_SITE": app.name, "BROWSER_ENGINE": engine, "HTTPS_PROXY": NOWHERE}
    with fleet(Site(app.address, ""), profiles, profiles.parent / "fleet", **settings) as running:
        running.wait_for(ada="READY")
        yield running


def _answer(app: StampedApp, running: Fleet, found: Found) -> None:
    prompt = f"{len(found.late)} [[tokens={TOKENS} delay_ms={PAUSE_MS}]]"
    asked, notes = _ask(app, running, prompt)
    late = [(asked.token_at[number] - at) * 1e3 for number, at in sorted(notes.token_at.items())]
    found.first.append(late[0])
    found.late.append(late)


def _submit(app: StampedApp, running: Fleet, page: _Bare, found: Found, number: int) -> None:
    for prompt, submitted in ((f"prompt number {number:06}", found.short), (long_prompt(number), found.long)):
        asked, notes = _ask(app, running, prompt)
        submitted.ours.append((notes.prompt_at - asked.began) * 1e3)
        began, fresh, notes = page.ask(prompt)
        submitted.script.append((notes.prompt_at - began) * 1e3)
        submitted.fill_and_send.append((notes.prompt_at - fresh) * 1e3)


def _ask(app: StampedApp, running: Fleet, prompt: str) -> tuple[Asked, Notes]:
    """Ask through the coordinator, once the page is at rest. Raises ValueError for an answer that is not the app's."""
    until(lambda: not _is_busy(running), "the page at rest")
    asked = ask(running.port, running.key or "", app.name if app.name != "demo" else "demo-small", prompt)
    notes = app.notes(prompt)
    if asked.token_at.keys() != notes.token_at.keys():
        raise ValueError("the answer is not what the app sent")
    return asked, notes


def _is_busy(running: Fleet) -> bool:
    status, body = fetch(f"http://127.0.0.1:{running.port + 1}/ready")
    return status != 200 or bool(body["busy"])


def long_prompt(number: int) -> str:
    """100 kB in 2,000 lines, and no two the same."""
    return "\n".join(f"{number:06} {line:06} {'x' * 35}" for line in range(LINES))


class _Bare:
    """The script on its page, for whoever is not asynchronous."""

    def __init__(self, app: StampedApp, bare: Plan, runner: asyncio.Runner) -> None:
        self._app = app
        self._runner = runner
        self._stack = contextlib.AsyncExitStack()
        page = runner.run(self._stack.enter_async_context(opened(bare)))
        self._script = Script(page, bare, steps(app.site()))

    def ask(self, prompt: str) -> tuple[float, float, Notes]:
        began, fresh = self._runner.run(self._script.ask(prompt))
        notes = self._app.notes(prompt)
        self._runner.run(self._script.rest())
        return began, fresh, notes

    def close(self) -> None:
        self._runner.run(self._stack.aclose())

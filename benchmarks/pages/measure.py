"""Measure one engine on one site: the product and the bare script in turn, round by round."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.pages.bare_script import PageScript, PageTimes, ScriptPlan, open_page
from benchmarks.pages.client import TimedAnswer, stream_completion
from benchmarks.pages.script_plan import plan, steps
from benchmarks.pages.timestamped_app import AnswerTimes, TimestampedApp, timestamped_app
from benchmarks.process_events import wait_until
from benchmarks.process_usage import ChildMemory, child_memory
from benchmarks.standalone_child import standalone_child
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
class SubmitTimes:
    """Milliseconds until the app received the prompt.

    Through the API (`ours`), and by the script, with (`script`) and without (`fill_and_send`) opening a new chat.
    """

    ours: list[float] = field(default_factory=list)
    script: list[float] = field(default_factory=list)
    fill_and_send: list[float] = field(default_factory=list)


@dataclass
class Measurements:
    """Milliseconds, and MB. `late` has a list for each answer: from the app's sending of each token to the client.

    `received` and `shown` have such lists for the page by itself, in a browser without the product: until its script
    was given the token, and until it showed it. Memory is measured when the child or the script is ready, and once more
    after all answers.
    """

    start: list[float] = field(default_factory=list)
    bare_start: list[float] = field(default_factory=list)
    late: list[list[float]] = field(default_factory=list)
    received: list[list[float]] = field(default_factory=list)
    shown: list[list[float]] = field(default_factory=list)
    short: SubmitTimes = field(default_factory=SubmitTimes)
    long: SubmitTimes = field(default_factory=SubmitTimes)
    memory: list[ChildMemory] = field(default_factory=list)
    memory_after: list[ChildMemory] = field(default_factory=list)
    bare_memory: list[ChildMemory] = field(default_factory=list)


def measure(console: Console, engine: EngineName, name: str) -> Measurements:
    """Run all measurements of one engine and site."""
    found, label = Measurements(), f"pages: {engine}, {name}"
    with tempfile.TemporaryDirectory(prefix="tf-", dir="/tmp") as folder, timestamped_app(name, Path(folder)) as app:
        login = Path(folder) / "active" / f"{CHILD}.json"
        login.parent.mkdir(mode=0o700)
        login.write_text(json.dumps(app.log_in()), encoding="utf-8")
        login.chmod(0o600)
        bare = plan(app, engine)
        for number in track(range(STARTS + 1), f"{label}, starts", console=console, transient=True):
            _start(app, engine, login, bare, found if number else Measurements())  # the first of each fills the caches
        with _running(app, login.parent, engine) as running, asyncio.Runner() as runner:
            with contextlib.closing(_SyncScript(app, bare, runner, note_times=True)) as page:
                for number in track(range(ANSWERS), f"{label}, answers", console=console, transient=True):
                    _answer(app, running, page, found, number)
            with contextlib.closing(_SyncScript(app, bare, runner)) as page:
                for number in track(range(SUBMISSIONS), f"{label}, prompts", console=console, transient=True):
                    _submit(app, running, page, found, number)
            found.memory_after.append(child_memory(running.child_pid(CHILD)))
    return found


def _start(app: TimestampedApp, engine: EngineName, login: Path, bare: ScriptPlan, found: Measurements) -> None:
    with standalone_child(app.name, app.address, login, engine, HTTPS_PROXY=NOWHERE) as child:
        found.start.append(child.took_s * 1e3)
        found.memory.append(child_memory(child.pid))
    began = time.monotonic()
    command = bare.command()
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout  # noqa: S101 - for the type checker
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the bare script did not open the page")
        found.bare_start.append((time.monotonic() - began) * 1e3)
        found.bare_memory.append(child_memory(process.pid))
        assert process.stdin  # noqa: S101 - for the type checker
        process.stdin.close()
        process.wait()
    finally:
        end(process)


@contextlib.contextmanager
def _running(app: TimestampedApp, profiles: Path, engine: EngineName) -> Iterator[Fleet]:
    settings: dict[str, Any] = {"CHAT_SITE": app.name, "BROWSER_ENGINE": engine, "HTTPS_PROXY": NOWHERE}
    with fleet(Site(app.address, ""), profiles, profiles.parent / "fleet", **settings) as running:
        running.wait_for(ada="READY")
        yield running


def _answer(app: TimestampedApp, running: Fleet, page: _SyncScript, found: Measurements, number: int) -> None:
    prompt = f"{number} [[tokens={TOKENS} delay_ms={PAUSE_MS}]]"
    received, sent = _complete(app, running, prompt)
    found.late.append(after_sending(sent, received.token_at))
    _, _, sent = page.ask(prompt)
    times = page.times()
    found.received.append(after_sending(sent, times.received))
    found.shown.append(after_sending(sent, times.shown))


def after_sending(sent: AnswerTimes, token_at: Mapping[int, float]) -> list[float]:
    """Return the milliseconds from the app's sending of each token, in order.

    Raise ValueError if one is missing, or came long before it was sent: a time of another answer.
    """
    if token_at.keys() != sent.token_at.keys():
        raise ValueError("the page by itself did not get the tokens that the app sent")
    took_ms = [(token_at[number] - at) * 1e3 for number, at in sorted(sent.token_at.items())]
    if min(took_ms) < -PAUSE_MS:
        raise ValueError("the times are not those of this answer, or not by the same clock")
    return took_ms


def _submit(app: TimestampedApp, running: Fleet, page: _SyncScript, found: Measurements, number: int) -> None:
    for prompt, times in ((f"prompt number {number:06}", found.short), (long_prompt(number), found.long)):
        received, sent = _complete(app, running, prompt)
        times.ours.append((sent.prompt_at - received.began) * 1e3)
        began, fresh, sent = page.ask(prompt)
        times.script.append((sent.prompt_at - began) * 1e3)
        times.fill_and_send.append((sent.prompt_at - fresh) * 1e3)


def _complete(app: TimestampedApp, running: Fleet, prompt: str) -> tuple[TimedAnswer, AnswerTimes]:
    """Request a completion once the page is idle. Raise ValueError if tokens are missing."""

    def is_idle() -> bool:
        status, body = fetch(f"http://127.0.0.1:{running.port + 1}/ready")
        return status == 200 and not body["busy"]

    wait_until(is_idle, "the page to be idle")
    model = app.name if app.name != "demo" else "demo-small"
    received = stream_completion(running.port, running.key or "", model, prompt)
    sent = app.answer_times(prompt)
    if received.token_at.keys() != sent.token_at.keys():
        raise ValueError("the answer does not have the tokens that the app sent")
    return received, sent


def long_prompt(number: int) -> str:
    """Return a prompt of 100 kB in 2,000 lines, all different."""
    return "\n".join(f"{number:06} {line:06} {'x' * 35}" for line in range(LINES))


class _SyncScript:
    """The bare script on its page, with synchronous methods."""

    def __init__(
        self, app: TimestampedApp, bare: ScriptPlan, runner: asyncio.Runner, *, note_times: bool = False
    ) -> None:
        self._app = app
        self._runner = runner
        self._stack = contextlib.AsyncExitStack()
        page = runner.run(self._stack.enter_async_context(open_page(bare, note_times=note_times)))
        self._script = PageScript(page, bare, steps(app.site()))

    def ask(self, prompt: str) -> tuple[float, float, AnswerTimes]:
        began, fresh = self._runner.run(self._script.ask(prompt))
        sent = self._app.answer_times(prompt)
        self._runner.run(self._script.wait_for_answer())
        return began, fresh, sent

    def times(self) -> PageTimes:
        return self._runner.run(self._script.times())

    def close(self) -> None:
        self._runner.run(self._stack.aclose())

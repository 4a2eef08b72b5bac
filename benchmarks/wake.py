"""A request to a page that sleeps (`SLEEP_AFTER_S`), beside one to a page that is awake, on the demo's page.

One coordinator with one login. Each round waits until the page sleeps, sends a request, and another one at once. Both
are timed from the request until the site has its prompt. A bare Playwright script opens the same page in a browser that
runs.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.bare_contexts import LARGEST_COST, bare_contexts
from benchmarks.pages.client import stream_completion
from benchmarks.pages.script_plan import plan
from benchmarks.pages.timestamped_app import TimestampedApp, timestamped_app
from benchmarks.report import Benchmark, Compared, Result
from browser.settings import EngineName
from tests.e2e.fleet import Fleet, Site, eventually, fleet
from tests.support.ports import NOWHERE

ENGINES: tuple[EngineName, ...] = ("chromium", "firefox")
ROUNDS = 7
SLEEP_AFTER_S = 2
LIMIT_S = 120.0
AIM_MORE_MS = 300.0


def result(engine: EngineName, asleep: list[float], awake: list[float], bare: list[float]) -> Result:
    """Return the comparison; all in milliseconds."""
    rows = [
        Compared.of_runs("request to prompt, page asleep", "ms", asleep, "page awake", awake, None, AIM_MORE_MS),
        Compared.of_runs("request to prompt, page asleep", "ms", asleep, "a bare script opens the page", bare),
    ]
    return Result(f"{engine}: a request wakes a page, {ROUNDS} rounds", rows, () if rows[0].met else (LARGEST_COST,))


def _run(engine: EngineName, console: Console) -> Result:
    asleep: list[float] = []
    awake: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory(prefix="tf-", dir="/tmp") as name, timestamped_app("demo", Path(name)) as app:
        profiles = Path(name) / "active"
        profiles.mkdir(mode=0o700)
        (profiles / "ada.json").write_text(json.dumps(app.log_in()), encoding="utf-8")
        (profiles / "ada.json").chmod(0o600)
        settings: dict[str, Any] = {
            "BROWSER_ENGINE": engine,
            "HTTPS_PROXY": NOWHERE,
            "SLEEP_AFTER_S": str(SLEEP_AFTER_S),
        }
        with (
            fleet(Site(app.address, ""), profiles, Path(name) / "fleet", **settings) as running,
            bare_contexts(plan(app, engine)) as contexts,
        ):
            running.wait_for(timeout_s=LIMIT_S, ada="READY")
            console.print(f"wake: {engine}, {ROUNDS} rounds", style="dim")
            for number in range(ROUNDS + 1):
                eventually(lambda: running.children()["ada"]["asleep"], timeout_s=LIMIT_S)
                times = (_prompt_ms(app, running, f"{number} asleep"), _prompt_ms(app, running, f"{number} awake"))
                opened_ms = contexts.open_s() * 1e3
                if number:  # the first of each fills the caches
                    asleep.append(times[0])
                    awake.append(times[1])
                    bare.append(opened_ms)
    return result(engine, asleep, awake, bare)


def _prompt_ms(app: TimestampedApp, running: Fleet, prompt: str) -> float:
    received = stream_completion(running.port, running.key or "", "demo-small", prompt)
    return (app.answer_times(prompt).prompt_at - received.began) * 1e3


BENCHMARKS: Mapping[str, Benchmark] = {f"wake-{engine}": partial(_run, engine) for engine in ENGINES}

"""A child's start with a spare browser (`SPARE_BROWSERS`) and without, on the demo's page.

Two coordinators run side by side, each with one login, which is restarted on both by turns. A start is timed from its
order, once nothing of the old browser is left, until the child is READY. A bare Playwright script opens the same page
in a browser that runs.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from benchmarks.bare_contexts import LARGEST_COST, bare_contexts
from benchmarks.pages.script_plan import plan
from benchmarks.pages.timestamped_app import TimestampedApp, timestamped_app
from benchmarks.process_usage import pss_mb, thread_cpu_s, used_since_s
from benchmarks.report import Benchmark, Compared, Figure, Result
from browser.settings import EngineName
from tests.e2e.fleet import Fleet, Site, descendants, eventually, fetch, fleet
from tests.support.json_lines import json_lines
from tests.support.ports import NOWHERE

ENGINES: tuple[EngineName, ...] = ("chromium", "firefox")
ROUNDS = 9
LIMIT_S = 120.0
PEER = "a browser of its own"
AIM_MS = 600.0
T = TypeVar("T")


def result(
    engine: EngineName,
    spare: list[tuple[float, float]],
    own: list[tuple[float, float]],
    bare_s: list[float],
    memory_mb: float,
) -> Result:
    """Return the comparison of starts, each its seconds and its CPU seconds.

    `bare_s` are the seconds of the bare script, `memory_mb` is that of an idle spare.
    """
    ready = Figure("from the start's order to READY", "ms", _in_ms(spare, 0), AIM_MS)
    bare_ms = [took_s * 1e3 for took_s in bare_s]
    rows = [
        *(
            Compared.of_runs(what, "ms", _in_ms(spare, kind), PEER, _in_ms(own, kind))
            for kind, what in enumerate((ready.what, "CPU until then, of all processes"))
        ),
        Compared.of_runs(ready.what, "ms", ready.runs, "a bare script opens the page", bare_ms),
    ]
    title = f"{engine}: a start in a spare browser, {ROUNDS} of each"
    figures = [ready, Figure("memory of an idle spare", "MB", [memory_mb])]
    return Result(title, rows, () if ready.met else (LARGEST_COST,), figures)


def _in_ms(starts: list[tuple[float, float]], kind: int) -> list[float]:
    return [start[kind] * 1e3 for start in starts]


def _run(engine: EngineName, console: Console) -> Result:
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="tf-", dir="/tmp")))
        app = running.enter_context(timestamped_app("demo", folder))
        spare, own = (running.enter_context(_fleet(app, folder / str(count), engine, count)) for count in (1, 0))
        contexts = running.enter_context(bare_contexts(plan(app, engine)))
        _until_spare(spare)
        memory_mb = pss_mb(_idle_spare(spare))
        console.print(f"start: {engine}, {ROUNDS} rounds, with a spare browser and without", style="dim")
        starts: dict[str, list[tuple[float, float]]] = {"spare": [], "own": []}
        bare_s: list[float] = []
        for _ in range(ROUNDS):
            for which, restarted in (("spare", spare), ("own", own)):
                _until_spare(spare)  # its own start would be in the way of either
                starts[which].append(_start(restarted))
            _until_spare(spare)
            bare_s.append(contexts.open_s())
    return result(engine, starts["spare"], starts["own"], bare_s, memory_mb)


def _fleet(app: TimestampedApp, folder: Path, engine: EngineName, spares: int) -> Any:
    profiles = folder / "active"
    profiles.mkdir(mode=0o700, parents=True)
    (profiles / "ada.json").write_text(json.dumps(app.log_in()), encoding="utf-8")
    settings = {"BROWSER_ENGINE": engine, "SPARE_BROWSERS": str(spares), "HTTPS_PROXY": NOWHERE}
    if engine != "chromium":
        settings["BROWSER_EXECUTABLE"] = ""
    return fleet(Site(app.address, ""), profiles, folder / "fleet", **settings)


def _start(running: Fleet) -> tuple[float, float]:
    """Restart the child; return the seconds from the start's order to READY, and the CPU seconds of them."""
    running.wait_for(timeout_s=LIMIT_S, ada="READY")
    count = len(_events(running, "child_ready"))
    headers = {"authorization": f"Bearer {running.key}"}
    status, _ = fetch(f"{running.url}/admin/children/ada/restart", headers=headers, method="POST")
    if status != HTTPStatus.ACCEPTED:
        raise ValueError(f"the child was not restarted: {status}")
    _until(lambda: len(_events(running, "child_started")) > count)  # as soon as it has been ordered
    before = thread_cpu_s(_processes(running))
    _until(lambda: len(_events(running, "child_ready")) > count)
    cpu_s = used_since_s(before, _processes(running))
    return float(_events(running, "child_ready")[-1]["start_s"]), cpu_s


def _until_spare(running: Fleet) -> None:
    _until(lambda: running.ready()[1]["spare_browsers"] == 1)
    time.sleep(1.0)  # what a browser does after its start is none of the child's


def _idle_spare(running: Fleet) -> list[int]:
    host = next(pid for pid in descendants(running.process.pid) if pid != running.child_pid("ada") and _is_host(pid))
    return [host, *descendants(host)]


def _is_host(pid: int) -> bool:
    return b"--host" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def _processes(running: Fleet) -> list[int]:
    return [running.process.pid, *descendants(running.process.pid)]


def _events(running: Fleet, name: str) -> list[dict[str, Any]]:
    return [event for event in json_lines(running.log) if event["event"] == name]


def _until(look: Callable[[], T]) -> T:
    return eventually(look, timeout_s=LIMIT_S)


BENCHMARKS: Mapping[str, Benchmark] = {f"start-spare-{engine}": partial(_run, engine) for engine in ENGINES}

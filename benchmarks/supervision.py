"""How fast a lost child or browser is detected, cleaned up and replaced: `python -m benchmarks supervision`.

A real Chromium on the demo site, under a coordinator without restart back-off; up to two minutes. Each round kills a
child and measures until the last process of its browser has exited, until the process of the next child starts, until
that child's own `/ready` is 200, and until it is READY. It compares this with `launch_camoufox.py` started without a
coordinator. Then it kills a browser and measures until the coordinator's `/ready` names its child. During both starts,
one idle browser runs as well. Everything is observed from outside: by pidfds, /proc and HTTP.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import track

from benchmarks.process_events import (
    ReadinessClient,
    api_port,
    browser_group,
    children_of,
    exit_and_restart,
    members,
    pidfds,
    wait_until,
)
from benchmarks.report import Compared, Figure, Result
from benchmarks.standalone_child import standalone_child
from tests.e2e.fleet import Fleet, demo_site, fleet, log_in_by_request

ROUNDS = 7
ENOUGH_S = 75.0  # no round starts later than this
CHILD, STANDALONE = "ada", "grace"  # accounts of the demo site


@dataclass
class Times:
    """Milliseconds of each round."""

    exited: list[float] = field(default_factory=list)
    successor: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    noticed: list[float] = field(default_factory=list)
    standalone: list[float] = field(default_factory=list)
    named: list[float] = field(default_factory=list)


def run(console: Console) -> Result:
    """Measure round by round."""
    times = Times()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tf-", dir="/tmp") as name, demo_site() as site:
        folder = Path(name)
        logins = log_in_by_request(site, folder / "logins", (CHILD, STANDALONE))
        (folder / "active").mkdir()
        shutil.move(logins / f"{CHILD}.json", folder / "active")
        with fleet(
            site, folder / "active", folder / "fleet", module="benchmarks.coordinator_without_backoff"
        ) as running:
            running.wait_for(ada="READY")
            for _ in track(range(ROUNDS), "supervision", console=console, transient=True):
                if time.monotonic() - began < ENOUGH_S:
                    with standalone_child("demo", site.url, logins / f"{STANDALONE}.json") as standalone:
                        times.standalone.append(standalone.took_s * 1e3)
                        with contextlib.closing(ReadinessClient(running.port)) as coordinator:
                            _kill_child(running, coordinator, times)
                    with contextlib.closing(ReadinessClient(running.port)) as coordinator:
                        _kill_browser(running, coordinator, times)
    return _result(times)


def _result(times: Times) -> Result:
    figures = [
        Figure("SIGKILL of a child until its browser's last process exits", "ms", times.exited),
        Figure("from then to the next child's process", "ms", times.successor, aim=10),
        Figure("the next child's own /ready until it is READY", "ms", times.noticed),
        Figure("SIGKILL of a browser until /ready names its child", "ms", times.named, aim=1000),
    ]
    rows = [
        Compared.of_runs(
            "next child's process to READY", "ms", times.ready, "launch_camoufox.py", times.standalone, aim=1.3
        )
    ]
    title = f"Supervision of real Chromium on the demo site (medians of {len(times.exited)} rounds)"
    own_ms = median(times.noticed)
    note = f"{rows[0].what}: supervision takes {own_ms:.0f} ms of it, after the child's own /ready."
    return Result(title, rows, [] if rows[0].met else [note], figures)


def _kill_child(running: Fleet, coordinator: ReadinessClient, times: Times) -> None:
    (child,) = children_of(running.process.pid)
    with pidfds([child, *members(browser_group(child))]) as opened:
        began = time.monotonic()
        os.kill(child, signal.SIGKILL)
        exited_at, started_at = exit_and_restart(opened, running.process.pid)
    (successor,) = children_of(running.process.pid)
    wait_until(lambda: api_port(successor) > 0, "the exec of the next child")
    with contextlib.closing(ReadinessClient(api_port(successor))) as asker:
        wait_until(lambda: asker.get()[0] == 200, "the next child's own /ready")
    own_at = time.monotonic()
    wait_until(lambda: _is_ready(coordinator), "the next child READY")
    ready_at = time.monotonic()
    times.exited.append((exited_at - began) * 1e3)
    times.successor.append((started_at - exited_at) * 1e3)
    times.noticed.append((ready_at - own_at) * 1e3)
    times.ready.append((ready_at - started_at) * 1e3)


def _kill_browser(running: Fleet, coordinator: ReadinessClient, times: Times) -> None:
    (child,) = children_of(running.process.pid)
    began = time.monotonic()
    os.kill(browser_group(child), signal.SIGKILL)
    wait_until(lambda: CHILD in coordinator.get()[1]["unhealthy"], "/ready to name the child")
    times.named.append((time.monotonic() - began) * 1e3)
    wait_until(lambda: _is_ready(coordinator), "the next child READY")


def _is_ready(coordinator: ReadinessClient) -> bool:
    status, body = coordinator.get()
    return status == 200 and not body["unhealthy"]

"""How fast a lost browser is noticed, buried and replaced: `python -m benchmarks supervision`, up to two minutes.

A real Chromium on the demo site, under a coordinator that has no back-off to wait for. In turn: a child is killed
(until its browser's last process is dead, until the next child's process, until that one's own `/ready`, until it is
READY), the same child is started by hand as `launch_camoufox.py` alone, and a browser is killed (until the
coordinator's `/ready` names its child). Beside each of the two starts there is one idle browser. All is seen from
outside: by pidfds, /proc and HTTP.
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

from benchmarks.alone import child_alone
from benchmarks.report import Compared, Figure, Result
from benchmarks.watching import (
    Asker,
    api_port,
    browser_group,
    children_of,
    death_and_successor,
    descriptors,
    members,
    until,
)
from tests.e2e.fleet import Fleet, Site, demo_site, fleet, log_in

ROUNDS = 7
ENOUGH_S = 75.0  # no round begins later than this
CHILD, ALONE = "ada", "grace"  # accounts of the demo site


@dataclass
class Times:
    """Milliseconds of each round."""

    dead: list[float] = field(default_factory=list)
    successor: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    told: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    named: list[float] = field(default_factory=list)


def run(console: Console) -> Result:
    """Measure round by round."""
    times = Times()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tf-", dir="/tmp") as name, demo_site() as site:
        folder = Path(name)
        logins = log_in(site, folder / "logins", (CHILD, ALONE))
        (folder / "active").mkdir()
        shutil.move(logins / f"{CHILD}.json", folder / "active")
        with fleet(site, folder / "active", folder / "fleet", module="benchmarks.steady_coordinator") as running:
            running.wait_for(ada="READY")
            for _ in track(range(ROUNDS), "supervision", console=console, transient=True):
                if time.monotonic() - began < ENOUGH_S:
                    _round(site, running, logins / f"{ALONE}.json", times)
    return _result(times)


def _result(times: Times) -> Result:
    figures = [
        Figure("SIGKILL of a child to its browser's last process dead", "ms", times.dead),
        Figure("from there to the next child's process", "ms", times.successor, aim=10),
        Figure("the next child's own /ready to its being READY", "ms", times.told),
        Figure("a browser's death to /ready naming its child", "ms", times.named, aim=1000),
    ]
    rows = [Compared.of_runs("from there to READY", "ms", times.ready, "launch_camoufox.py alone", times.bare, aim=1.3)]
    title = f"Supervision of real Chromium on the demo site (medians of {len(times.dead)} rounds)"
    own_ms = median(times.told)
    note = f"{rows[0].what}: {own_ms:.0f} ms of it are supervision's own, after the child's own /ready."
    return Result(title, rows, [] if rows[0].met else [note], figures)


def _round(site: Site, running: Fleet, login: Path, times: Times) -> None:
    with child_alone("demo", site.url, login) as bare:
        times.bare.append(bare.took_s * 1e3)
        with contextlib.closing(Asker(running.port)) as coordinator:
            _lose_child(running, coordinator, times)
    with contextlib.closing(Asker(running.port)) as coordinator:
        _lose_browser(running, coordinator, times)


def _lose_child(running: Fleet, coordinator: Asker, times: Times) -> None:
    (child,) = children_of(running.process.pid)
    with descriptors([child, *members(browser_group(child))]) as watched:
        began = time.monotonic()
        os.kill(child, signal.SIGKILL)
        dead_at, born_at = death_and_successor(watched, running.process.pid)
    (successor,) = children_of(running.process.pid)
    until(lambda: api_port(successor) > 0, "the next child's program")
    with contextlib.closing(Asker(api_port(successor))) as asker:
        until(lambda: asker.ask()[0] == 200, "the next child's own readiness")
    own_at = time.monotonic()
    until(lambda: _is_ready(coordinator), "the next child READY")
    ready_at = time.monotonic()
    times.dead.append((dead_at - began) * 1e3)
    times.successor.append((born_at - dead_at) * 1e3)
    times.told.append((ready_at - own_at) * 1e3)
    times.ready.append((ready_at - born_at) * 1e3)


def _lose_browser(running: Fleet, coordinator: Asker, times: Times) -> None:
    (child,) = children_of(running.process.pid)
    began = time.monotonic()
    os.kill(browser_group(child), signal.SIGKILL)
    until(lambda: CHILD in coordinator.ask()[1]["unhealthy"], "the loss in /ready")
    times.named.append((time.monotonic() - began) * 1e3)
    until(lambda: _is_ready(coordinator), "the next child READY")


def _is_ready(coordinator: Asker) -> bool:
    status, body = coordinator.ask()
    return status == 200 and not body["unhealthy"]

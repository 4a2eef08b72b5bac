"""Memory and idle CPU of 1, 2, 4 and 8 logins in one browser, beside as many browsers of their own.

`python -m benchmarks density-chromium-demo`, or `density` for every engine and site. All processes of the children
count: the program's, the driver's and the browsers'. The coordinator and the site do not.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.pages.timestamped_app import TimestampedApp, timestamped_app
from benchmarks.process_usage import pss_mb, thread_cpu_s, used_since_s
from benchmarks.report import Benchmark, Compared, Figure, Result
from browser.settings import EngineName
from tests.e2e.fleet import Fleet, Site, descendants, fleet
from tests.support.ports import NOWHERE

ENGINES: tuple[EngineName, ...] = ("chromium", "firefox")
SITES = ("demo", "chainlit", "gradio")
LOGINS = (1, 2, 4, 8)
SETTLE_S, IDLE_S = 20.0, 30.0
"""What a browser does after a page's load is none of an idle login's."""
AIM_MB: Mapping[EngineName, float] = {"chromium": 45.0, "firefox": 70.0}
"""For a further login, on the demo's light page."""
AIM_IDLE_MS = 5.0
# From the PSS of each process, and CPU by thread.
LARGEST_COSTS: Mapping[EngineName, str] = {
    "chromium": "the largest remaining cost is the page's own renderer",
    "firefox": "the largest remaining cost is Firefox's: Playwright has it open a window for each context, which takes"
    " 48 MB of the browser's main process, twice the page's own process; an idle window has timers of its own",
}
PEER = "browsers of their own"


@dataclass
class Measured:
    """MB of all processes, and milliseconds of idle CPU a second, by the number of logins."""

    memory_mb: dict[int, float] = field(default_factory=dict)
    idle_ms: dict[int, float] = field(default_factory=dict)

    def further_mb(self, logins: int) -> float:
        """Return what each login after the first takes, of so many."""
        return (self.memory_mb[logins] - self.memory_mb[1]) / (logins - 1)


def result(engine: EngineName, site: str, shared: Measured, own: Measured) -> Result:
    """Return the comparison of one engine and site. The demo's page alone has targets."""
    most, has_aim = max(LOGINS), site == "demo"
    figures = [
        Figure(f"a further login, of {most}", "MB", [shared.further_mb(most)], AIM_MB[engine] if has_aim else None),
        Figure(
            f"idle CPU of a login a second, of {most}",
            "ms",
            [shared.idle_ms[most] / most],
            AIM_IDLE_MS if has_aim else None,
        ),
    ]
    rows = [
        Compared(f"{logins} logins: {what}", unit, getattr(shared, kind)[logins], PEER, getattr(own, kind)[logins])
        for what, unit, kind in (("memory", "MB", "memory_mb"), ("idle CPU a second", "ms", "idle_ms"))
        for logins in LOGINS
    ]
    notes = () if all(figure.met for figure in figures) else (LARGEST_COSTS[engine],)
    return Result(f"{engine} on {site}: logins in one browser, idle for {IDLE_S:g} s", rows, notes, figures)


def _run(engine: EngineName, site: str, console: Console) -> Result:
    shared, own = Measured(), Measured()
    with tempfile.TemporaryDirectory(prefix="tf-", dir="/tmp") as folder, timestamped_app(site, Path(folder)) as app:
        for logins in LOGINS:
            for found, per_browser in ((shared, logins), (own, 1)):
                if found is own and logins == 1:  # it is the same
                    own.memory_mb[1], own.idle_ms[1] = shared.memory_mb[1], shared.idle_ms[1]
                    continue
                console.print(f"density: {engine}, {site}, {logins} logins, {per_browser} in a browser", style="dim")
                place = Path(folder) / f"{logins}-{per_browser}"
                found.memory_mb[logins], found.idle_ms[logins] = _measure(app, engine, place, logins, per_browser)
    return result(engine, site, shared, own)


def _measure(
    app: TimestampedApp, engine: EngineName, folder: Path, logins: int, per_browser: int
) -> tuple[float, float]:
    """Return the memory and the idle CPU a second of so many logins, all READY."""
    profiles = folder / "active"
    profiles.mkdir(mode=0o700, parents=True)
    names = [f"login{number}" for number in range(logins)]
    for name, login in zip(names, _logins(app, logins), strict=True):
        (profiles / f"{name}.json").write_text(json.dumps(login), encoding="utf-8")
        (profiles / f"{name}.json").chmod(0o600)
    settings: dict[str, Any] = {"CHAT_SITE": app.name, "BROWSER_ENGINE": engine, "HTTPS_PROXY": NOWHERE}
    settings |= {"LOGINS_PER_BROWSER": str(per_browser), "LOG_DIR": str(folder)}
    with fleet(Site(app.address, ""), profiles, folder / "fleet", **settings) as running:
        running.wait_for(timeout_s=300, **dict.fromkeys(names, "READY"))
        time.sleep(SETTLE_S)
        before = thread_cpu_s(_children(running))
        began = time.monotonic()
        time.sleep(IDLE_S)
        took_s = time.monotonic() - began
        return pss_mb(_children(running)), used_since_s(before, _children(running)) / took_s * 1e3


def _logins(app: TimestampedApp, count: int) -> list[dict[str, Any]]:
    """Return so many different logins. Chainlit's token has the second of its login, and is the same within it."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        login = app.log_in()
        if login in found:
            time.sleep(0.2)
        else:
            found.append(login)
    return found


def _children(running: Fleet) -> list[int]:
    return descendants(running.process.pid)


BENCHMARKS: Mapping[str, Benchmark] = {
    f"density-{engine}-{site}": partial(_run, engine, site) for engine in ENGINES for site in SITES
}

"""CPU of a look at the page, and of an idle login, each beside the same through Playwright's driver.

`python -m benchmarks looks-chromium`, or both engines by `looks`. All processes count: the child, Playwright's driver,
and the browser's. The demo site does not.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.process_events import children_of
from benchmarks.process_usage import thread_cpu_s, used_since_s
from benchmarks.report import Benchmark, Compared, Figure, Result
from benchmarks.standalone_child import standalone_child
from browser.page.browser_host import BrowserHost
from browser.page.chat_page import ChatPage
from browser.page.tab import PageSnapshot, Tab
from browser.settings import BrowserSettings, EngineName
from browser.site.load import SITES_DIR, Site, parse_site
from contract.logs import configure_logging
from tests.e2e.fleet import demo_site, descendants, log_in_by_request
from tests.support.ports import NOWHERE, free_range

ENGINES: tuple[EngineName, ...] = ("chromium", "firefox")
ROUNDS, LOOKS = 7, 200
WARM_UP_LOOKS = 50
IDLE_ROUNDS, IDLE_S = 3, 30.0
SETTLE_S = 20.0
"""What a browser does after a page's load is none of an idle login's."""
LOOK_RATIO = 0.5
IDLE_MS = 5.0
LOOK, IDLE = "CPU of a look", "CPU of an idle login, a second"
LARGEST_COST = (
    "the largest remaining cost of an idle login is one look a second, which wakes six threads whose data has left the "
    "caches: four fifths in Chromium, where the browser also tells the driver of each message of a WebSocket"
)
PEER = "by the driver"
BY_DRIVER = ("-m", "benchmarks.child_that_looks_by_driver")


@dataclass
class Runs:
    """Milliseconds of CPU, one for each round: ours, and by the driver."""

    ours: list[float] = field(default_factory=list)
    driver: list[float] = field(default_factory=list)


@dataclass
class Idle:
    """Milliseconds of CPU a second, one for each round: of the child's own process, its driver, and its browser."""

    child: list[float] = field(default_factory=list)
    driver: list[float] = field(default_factory=list)
    browser: list[float] = field(default_factory=list)

    @property
    def total(self) -> list[float]:
        """Return the sums."""
        return [sum(parts) for parts in zip(self.child, self.driver, self.browser, strict=True)]


def result(engine: EngineName, looks: Runs, ours: Idle, by_driver: Idle) -> Result:
    """Return the comparison of one engine with its targets; for an idle login Chromium alone has one."""
    rows = [
        Compared.of_runs(LOOK, "ms", looks.ours, PEER, looks.driver, LOOK_RATIO),
        Compared.of_runs(IDLE, "ms", ours.total, PEER, by_driver.total),
        *(
            Compared.of_runs(f"of that, {part}", "ms", getattr(ours, part), PEER, getattr(by_driver, part))
            for part in ("child", "driver", "browser")
        ),
    ]
    idle = Figure(IDLE, "ms", ours.total, IDLE_MS if engine == "chromium" else None)
    title = f"{engine} on demo: {ROUNDS} rounds of {LOOKS} looks; an idle login for {IDLE_ROUNDS} times {IDLE_S:g} s"
    return Result(title, rows, [] if idle.met else [LARGEST_COST], [idle])


def _run(engine: EngineName, console: Console) -> Result:
    configure_logging("console", "error")
    with tempfile.TemporaryDirectory(prefix="tf-", dir="/tmp") as folder, demo_site() as demo:
        logins = log_in_by_request(demo, Path(folder) / "logins")
        for login in logins.iterdir():
            login.chmod(0o600)
        url = f"{demo.url}/chat"
        console.print(f"{engine}: looks", style="dim")
        looks = asyncio.run(_looks(engine, url, logins / "ada.json", Path(folder)))
        console.print(f"{engine}: idle logins, for {SETTLE_S + IDLE_ROUNDS * IDLE_S:g} s", style="dim")
        ours, by_driver = _idle(engine, url, logins)
    return result(engine, looks, ours, by_driver)


async def _looks(engine: EngineName, url: str, login: Path, folder: Path) -> Runs:
    """Measure looks one after the other in this process: ours, and those of a tab that has no hook to ask, in turn."""
    path = SITES_DIR / "demo.toml"
    site: Site = parse_site(path.read_text(encoding="utf-8"), path.name, url=url)
    run_dir = folder / "run"
    run_dir.mkdir(mode=0o700)
    settings = BrowserSettings(https_proxy=NOWHERE)
    page = ChatPage(
        site=site,
        profile=login,
        host=BrowserHost(engine=engine, headless=True, stream_port=free_range(1), run_dir=run_dir, settings=settings),
        run_dir=run_dir,
        settings=settings,
    )
    runs, before_start = Runs(), set(descendants(os.getpid()))
    try:
        await page.start()
        tab = page.site_page.tab
        by_driver = Tab(tab.page, site)
        for one in (tab, by_driver):
            await _look(one, WARM_UP_LOOKS)
        pids = [os.getpid(), *set(descendants(os.getpid())) - before_start]
        for _ in range(ROUNDS):
            for one, took in ((tab, runs.ours), (by_driver, runs.driver)):
                before = thread_cpu_s(pids)
                await _look(one, LOOKS)
                took.append(used_since_s(before, pids) / LOOKS * 1e3)
    finally:
        await page.close()
    return runs


async def _look(tab: Tab, times: int) -> None:
    for _ in range(times):
        seen: PageSnapshot | None = await tab.look()
        if seen is None or not seen.usable:
            raise RuntimeError("the page is not usable")


def _idle(engine: EngineName, url: str, logins: Path) -> tuple[Idle, Idle]:
    """Measure two idle children at the same time: ours, and one that looks by the driver."""
    with (
        standalone_child("demo", url, logins / "ada.json", engine, HTTPS_PROXY=NOWHERE) as ours,
        standalone_child("demo", url, logins / "grace.json", engine, program=BY_DRIVER, HTTPS_PROXY=NOWHERE) as other,
    ):
        time.sleep(SETTLE_S)
        found = Idle(), Idle()
        for _ in range(IDLE_ROUNDS):
            processes = [_processes(child.pid) for child in (ours, other)]
            before = thread_cpu_s(pid for parts in processes for pids in parts.values() for pid in pids)
            began = time.monotonic()
            time.sleep(IDLE_S)
            took_s = time.monotonic() - began
            for idle, child in zip(found, (ours, other), strict=True):
                for part, pids in _processes(child.pid).items():
                    getattr(idle, part).append(used_since_s(before, pids) / took_s * 1e3)
    return found


def _processes(child: int) -> Mapping[str, set[int]]:
    """Return the processes of a child: its own, its driver's and its browser's."""
    drivers = children_of(child)
    browser = {pid for driver in drivers for pid in descendants(driver)}
    return {"child": {child}, "driver": drivers, "browser": browser}


BENCHMARKS: Mapping[str, Benchmark] = {f"looks-{engine}": partial(_run, engine) for engine in ENGINES}

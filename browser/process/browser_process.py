"""One browser and the driver that speaks to it, bound to this process and watched."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import structlog
from playwright._impl._driver import compute_driver_executable
from playwright.async_api import Browser, Playwright, async_playwright

from browser.process.engine import Launch, find_executable, launch
from browser.process.parent_death import (
    DeathWatch,
    Process,
    Role,
    note_processes,
    read_noted,
    wait_gone,
    wrapper,
    wrapper_environment,
)
from browser.process.trust import trust_environment
from browser.settings import BrowserSettings, EngineName
from browser.timeouts import within

log = structlog.get_logger("browser")

Loss = Literal["browser_lost", "driver_lost"]
LOSS_SHOWS_AFTER_S = 0.5
_NODE_VARIABLE = "PLAYWRIGHT_NODEJS_PATH"


class BrowserHost:
    """Starts driver and browser, tells when either dies, and ends both."""

    def __init__(
        self,
        *,
        engine: EngineName,
        headless: bool,
        run_dir: Path,
        settings: BrowserSettings,
        on_lost: Callable[[], object] = lambda: None,
    ) -> None:
        self._engine = engine
        self._headless = headless
        self._run_dir = run_dir
        self._settings = settings
        self._on_lost = on_lost
        self._watch = DeathWatch(self._died)
        self._processes: dict[Role, Process] = {}
        self._loss: Loss | None = None
        self._is_lost = asyncio.Event()
        self._is_closing = False
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None

    @property
    def lost(self) -> Loss | None:
        return self._loss

    async def wait_lost(self) -> Loss:
        """Return as soon as driver or browser is dead, with which of the two."""
        await self._is_lost.wait()
        return self._loss or "browser_lost"

    @property
    def browser_process(self) -> Process:
        return self._processes["browser"]

    async def start(self) -> Browser:
        """Start both. Raises EngineMissing, TrustError, or BrowserLost if either does not come up."""
        executable = find_executable(self._engine, self._settings)
        program = wrapper("browser")
        trust = await trust_environment(self._engine, self._settings.extra_ca_file, self._run_dir)
        self._playwright = await self._start_driver()
        plan = Launch(
            self._engine,
            executable,
            program,
            self._headless,
            wrapper_environment("browser", executable, self._run_dir) | trust,
            self._settings,
        )
        self._browser = await launch(self._playwright, plan)
        self._browser.on("disconnected", lambda _: self._died("browser"))  # comes before the process is gone
        self._note("browser")
        log.info("browser_started", engine=self._engine, version=self._browser.version)
        return self._browser

    async def _start_driver(self) -> Playwright:
        node = Path(os.environ.get(_NODE_VARIABLE) or _bundled_node())
        variables = {
            _NODE_VARIABLE: str(wrapper("driver")),
            "PLAYWRIGHT_DISABLE_FORCED_CHROMIUM_PROXIED_LOOPBACK": "1",
            **wrapper_environment("driver", node, self._run_dir),
        }
        with _environment(variables):
            playwright = await async_playwright().start()
        self._note("driver")
        return playwright

    def _note(self, role: Role) -> None:
        process = read_noted(self._run_dir, role)
        self._processes[role] = process
        note_processes(self._run_dir, self._processes)
        self._watch.add(role, process)

    def _died(self, role: Role) -> None:
        driver = self._processes.get("driver")
        if self._loss is None and not self._is_closing:
            driver_is_dead = role == "driver" or (driver is not None and not driver.is_alive())
            self._loss = "driver_lost" if driver_is_dead else "browser_lost"
            log.error(self._loss)
            self._is_lost.set()
            self._on_lost()

    async def is_lost_soon(self) -> bool:
        """Tell whether either is dead; errors of Playwright may come a moment before that is known."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait_lost(), LOSS_SHOWS_AFTER_S)
        return self._loss is not None

    async def close(self) -> None:
        """End browser and driver, in 5 seconds at most, by force if need be."""
        self._is_closing = True
        self._watch.close()
        if self.lost or not (self._browser and await _bounded(self._browser.close(), 2.0)):
            self._kill()
        if self._playwright and not await _bounded(self._playwright.stop(), 1.0):
            self._kill()
            await _bounded(self._playwright.stop(), 1.0)  # ends the calls that still wait
        self._kill()
        for process in self._processes.values():
            await wait_gone(process, 1.0)

    def _kill(self) -> None:
        if "browser" in self._processes:
            self.browser_process.kill_group()
        for process in self._processes.values():
            process.kill()


async def _bounded(ending: Coroutine[Any, Any, None], timeout_s: float) -> bool:
    """Wait up to timeout_s seconds. Returns whether it ended well; if not, the processes are to be killed."""
    try:
        await within(timeout_s, ending, "browser-close")
    except Exception:  # noqa: BLE001 - Playwright raises anything when its driver is gone
        return False
    return True


def _bundled_node() -> str:
    return compute_driver_executable()[0]


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value

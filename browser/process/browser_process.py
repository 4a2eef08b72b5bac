"""One browser and the driver that speaks to it, bound to this process's life and watched."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog
from playwright.async_api import Browser, Playwright

from browser.process.driver import Driver
from browser.process.engine import Launch, find_executable, launch
from browser.process.loss import Loss, LossNotice
from browser.process.own_proxy import OwnProxy
from browser.process.parent_death import DeathWatch, started_process, wait_gone, wrapper, wrapper_environment
from browser.process.proxy import WayOut
from browser.process.trust import trust_environment
from browser.settings import BrowserSettings, EngineName
from browser.timeouts import within
from contract.processes import ProcessIdentity, read_stat
from contract.run_folder import Role, write_processes

log = structlog.get_logger("browser")


class BrowserProcess:
    """Starts driver and browser, tells when either dies, and ends both.

    `on_lost` is called once, in the event loop, when either dies before `close` was called.
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        engine: EngineName,
        headless: bool,
        run_dir: Path,
        settings: BrowserSettings,
        on_lost: Callable[[], object] = lambda: None,
        own_proxy: OwnProxy | None = None,
        stream_port: int | None = None,
        driver: Driver | None = None,
    ) -> None:
        """`driver` is one that has been begun with.

        `own_proxy` is opened and closed with the browser, which then reaches nothing but it and `stream_port`.
        """
        self._engine = engine
        self._headless = headless
        self._run_dir = run_dir
        self._settings = settings
        self._on_lost = on_lost
        self._own_proxy = own_proxy
        self._stream_port = stream_port
        self._driver = driver or Driver(run_dir)
        self._watch = DeathWatch(self._died)
        self._processes: dict[Role, ProcessIdentity] = {}
        self._notice = LossNotice()
        self._is_closing = False
        self._playwright: Playwright | None = None
        self._browser: Browser | None = None

    @property
    def lost(self) -> Loss | None:
        """Which of the two died; None as long as neither has."""
        return self._notice.loss

    @property
    def identity(self) -> ProcessIdentity:
        """The browser's process, which leads a group of its own."""
        return self._processes["browser"]

    async def wait_lost(self) -> Loss:
        """Return as soon as driver or browser is dead, with which of the two."""
        return await self._notice.wait()

    def give_up(self) -> None:
        """Count the browser as lost, though it runs: it has lost what only a new one can get back."""
        self._died("browser")

    async def is_lost_soon(self) -> bool:
        """Return whether either is dead, or is found to be within 0.5 s: see `LossNotice.comes_soon`."""
        return await self._notice.comes_soon()

    async def start(self) -> Browser:
        """Start both. Raises EngineMissing, TrustError, or BrowserLost if either does not come up."""
        executable = find_executable(self._engine, self._settings)
        program = wrapper("browser")
        trust = await trust_environment(self._engine, self._settings.extra_ca_file, self._run_dir)

        way_out = None
        if self._own_proxy:
            await self._own_proxy.start()
            way_out = WayOut(self._own_proxy.port, self._stream_port)
        self._playwright = await self._driver.start()
        self._watch_started("driver")

        self._browser = await launch(
            self._playwright,
            Launch(
                self._engine,
                executable,
                program,
                self._headless,
                wrapper_environment("browser", executable, self._run_dir) | trust,
                self._settings,
                way_out,
            ),
        )
        # Playwright hears of it by the closed pipe, before the process itself is gone.
        self._browser.on("disconnected", lambda _: self._died("browser"))
        self._watch_started("browser")
        log.info("browser_started", engine=self._engine, version=self._browser.version)
        return self._browser

    def _watch_started(self, role: Role) -> None:
        process = started_process(self._run_dir, role)
        self._processes[role] = process
        write_processes(self._run_dir, self._processes)
        self._watch.add(role, process)

    def _died(self, role: Role) -> None:
        if self.lost or self._is_closing:
            return
        # A dead driver takes the browser with it, and the broken connection may be heard of before the driver's end.
        driver = self._processes.get("driver")
        driver_died = role == "driver" or (driver is not None and _is_ending(driver))
        loss: Loss = "driver_lost" if driver_died else "browser_lost"
        log.error(loss)
        self._notice.give(loss)
        self._on_lost()

    async def close(self) -> None:
        """End browser and driver, in 5 seconds at most, by SIGKILL if need be."""
        self._is_closing = True
        self._watch.close()
        if self.lost or not (self._browser and await _ended_well(self._browser.close(), 2.0)):
            self.kill()
        if self._playwright and not await _ended_well(self._playwright.stop(), 1.0):
            self.kill()
            await _ended_well(self._playwright.stop(), 1.0)  # ends the calls that still wait
        self.kill()
        for process in self._processes.values():
            await wait_gone(process, 1.0)
        if self._own_proxy:
            await self._own_proxy.close()

    def kill(self) -> None:
        """Send SIGKILL to the browser's group and the driver, as far as there are any. May be called in any thread."""
        if "browser" in self._processes:
            self.identity.kill_group(mark=str(self._run_dir))
        for process in tuple(self._processes.values()):
            process.kill()


def _is_ending(process: ProcessIdentity) -> bool:
    # Unlike is_alive this is true as soon as the main thread has ended: others close the connections a moment later.
    stat = read_stat(process.pid)
    return stat is None or stat.start_time != process.start_time or stat.state in "ZXx"


async def _ended_well(ending: Coroutine[Any, Any, None], timeout_s: float) -> bool:
    """Return whether it ended within timeout_s seconds and without an error; if not, the processes must be killed."""
    try:
        await within(timeout_s, ending, "browser-close")
    except Exception:  # noqa: BLE001 - Playwright raises anything when its driver is gone
        return False
    return True

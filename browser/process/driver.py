"""Playwright's driver: the program through which a process speaks to its browser."""

from __future__ import annotations

import asyncio
import linecache
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright._impl._driver import compute_driver_executable
from playwright.async_api import Playwright, async_playwright

from browser.errors import EngineMissing
from browser.process.parent_death import wrapper, wrapper_environment
from contract.files import HomeMissing, home

_NODE_VARIABLE = "PLAYWRIGHT_NODEJS_PATH"


class Driver:
    """The driver of one process, bound to its life. Make it inside a running loop, in the main thread.

    It needs nothing of a site or a login. So a child begins with it, and meanwhile imports what it is made of: both
    take about as long.
    """

    def __init__(self, run_dir: Path) -> None:
        """Its process id goes to a file in `run_dir`."""
        self._run_dir = run_dir
        self._starting: asyncio.Task[Playwright] | None = None

    def begin(self) -> None:
        """Start it in a task of its own; `start` tells how that ended. Idempotent."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start(), name="driver-start")
            # Whoever has no use for it any more does not ask; the event loop would log that nobody did.
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def start(self) -> Playwright:
        """Return what speaks to it, once it is up. Raises EngineMissing where it cannot be started."""
        self.begin()
        assert self._starting  # noqa: S101 - as of `begin`
        return await self._starting

    async def _start(self) -> Playwright:
        try:
            home()  # it ends without one, and its many lines do not say why
        except HomeMissing as missing:
            raise EngineMissing(str(missing)) from None
        node = Path(os.environ.get(_NODE_VARIABLE) or compute_driver_executable()[0])
        variables = {
            _NODE_VARIABLE: str(wrapper("driver")),
            # Playwright would make Chromium send loopback through a proxy too.
            "PLAYWRIGHT_DISABLE_FORCED_CHROMIUM_PROXIED_LOOPBACK": "1",
            **wrapper_environment("driver", node, self._run_dir),
        }
        _show_no_source_of("playwright")
        with _environment(variables):
            return await async_playwright().start()


def _show_no_source_of(package: str) -> None:
    """Have stack traces name the lines of this package without showing them.

    Playwright takes a stack trace of each call: the lines of its largest module would take 3 MB from then on, in every
    process that drives a browser.
    """
    modules = [module for name, module in sys.modules.items() if name.startswith(f"{package}.")]
    for path in filter(None, (getattr(module, "__file__", None) for module in modules)):
        linecache.cache[path] = 0, None, [], path  # without a time of modification it is never read again


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for as long as the driver starts: Playwright takes them from nowhere else."""
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

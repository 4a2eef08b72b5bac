"""The beginning of a child, or of a host of children: the browser's driver starts while what they need is imported.

That is all this module imports, for it comes before everything else.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
from pathlib import Path

from browser.process.driver import Driver
from contract.exit_codes import ExitCode


async def start_child(arguments: argparse.Namespace, run_dir: Path) -> ExitCode:
    """Run one child until it is told to stop. Return its exit code."""
    driver = await _driver_beside_import("api_utils.child", run_dir)
    from api_utils.child import run_child  # noqa: PLC0415 - see above

    return await run_child(arguments, run_dir, driver)


async def start_host(arguments: argparse.Namespace, run_dir: Path) -> ExitCode:
    """Run a host of children until its orders end. Return its exit code."""
    driver = await _driver_beside_import("api_utils.host", run_dir)
    from api_utils.host import run_host  # noqa: PLC0415 - see above

    return await run_host(arguments, run_dir, driver)


async def _driver_beside_import(module: str, run_dir: Path) -> Driver:
    driver = Driver(run_dir)
    driver.begin()
    await asyncio.to_thread(importlib.import_module, module)
    return driver

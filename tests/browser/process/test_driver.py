"""Playwright's driver, by itself."""

from __future__ import annotations

import linecache
from pathlib import Path

import playwright

from browser.process.driver import Driver


async def test_the_lines_of_playwrights_source_take_no_memory(tmp_path: Path) -> None:
    """It takes a stack trace of each call, and whoever takes one reads the source of all that is in it."""
    linecache.clearcache()
    driver = await Driver(tmp_path).start()
    try:
        request = await driver.request.new_context()
        await request.dispose()
    finally:
        await driver.stop()
    package = str(Path(playwright.__file__).parent)
    assert not [path for path in linecache.cache if path.startswith(package) and linecache.getlines(path)]
    assert linecache.getlines(__file__)  # those of others are shown

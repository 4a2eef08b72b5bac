"""What a child may leave running: its driver and its browser, as it wrote them down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.local import processes

if TYPE_CHECKING:
    from coordinator.local.runfolder import RunFolder


def kill(folder: RunFolder) -> int:
    """Kill the driver and the browser's group, if they still are the ones recorded; return how many were alive.

    Its own environment tells a process of this child: the run folder is its TMPDIR, and has a random name.
    """
    mark = str(folder.path)
    killed = 0
    driver, browser = folder.driver(), folder.browser()
    if driver is not None and processes.same_process(driver.id, driver.start_time):
        killed += 1
        processes.kill(driver.id)
    if browser is not None and processes.same_group(browser.id, browser.start_time, mark):
        killed += len(processes.living_members(browser.id))
        processes.kill_group(browser.id)
    return killed

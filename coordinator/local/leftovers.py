"""What a child may leave running: its driver and its browser, as it wrote them down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.local import processes

if TYPE_CHECKING:
    from coordinator.local.run_folder import RunFolder


def kill(folder: RunFolder) -> set[int]:
    """Kill the driver and the browser's group, if they still are the ones recorded; return those that were alive.

    A process of this child shows the run folder, which has a random name: in its environment, where it is TMPDIR,
    or on its command line.
    """
    mark = str(folder.path)
    killed: set[int] = set()
    driver, browser = folder.driver(), folder.browser()
    if driver is not None and processes.same_process(driver.id, driver.start_time):
        killed.add(driver.id)
        processes.kill(driver.id)
    if browser is not None and processes.same_group(browser.id, browser.start_time, mark):
        killed.update(processes.living_members(browser.id))
        processes.kill_group(browser.id)
        killed.update(processes.living_members(browser.id))  # born meanwhile, and doomed too
    return killed

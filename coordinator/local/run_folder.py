"""The run folder of one child: its private place, which is also its TMPDIR.

`contract.run_folder` lists the files that the child writes there; `tmp` is what is left for its browser.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from contract.processes import group_members
from contract.run_folder import KEPT, SUBMITTED, read_processes, read_submitted
from coordinator.local import processes

_DELETED = " (deleted)"  # proc_pid_exe(5)


class RunFolder:
    """The folder of one child, kept over its starts. `trash` takes what is to be deleted, on the same file system."""

    def __init__(self, path: Path, trash: Path) -> None:
        self.path = path
        self.tmp = path / "tmp"
        """The child's TMPDIR."""
        self._trash = trash

    def prepare(self) -> None:
        """Make it ready for a start. Raises OSError."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.tmp.mkdir(mode=0o700, exist_ok=True)
        (self.path / SUBMITTED).touch(mode=0o600)  # what is missing later cannot be taken for nothing submitted

    def exists(self) -> bool:
        """Return whether it is there, as `prepare` made it."""
        return os.path.isdir(self.tmp)  # noqa: PTH112 - Path.is_dir raises, where the answer is that it cannot be used

    def empty(self) -> Path | None:
        """Move everything but what is kept away, at once; return what is then to be deleted at leisure.

        Returns None if the folder itself is gone. Raises OSError.
        """
        if not self.path.is_dir():
            return None
        target = self._new_trash()
        for entry in self.path.iterdir():
            if entry.name not in KEPT:
                entry.rename(target / entry.name)
        return target

    def _new_trash(self) -> Path:
        self._trash.mkdir(mode=0o700, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self._trash))

    def discard(self) -> Path | None:
        """Move the whole folder away; return what is then to be deleted, None if it is gone. Raises OSError."""
        if not self.path.is_dir():
            return None
        target = self._new_trash()
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(target / self.path.name)
        return target

    def submitted(self) -> frozenset[str] | None:
        """Return the ids of requests that may have been submitted; None if they cannot be read."""
        return read_submitted(self.path)

    def browser_pids(self) -> set[int]:
        """Return the pids of the browser's processes, as far as the child has written down which they are."""
        browser = read_processes(self.path).get("browser")
        return set() if browser is None else set(group_members(browser.pid))

    def has_outdated_browser(self) -> bool:
        """Return whether the browser's program is no longer on the disk as it was started: it has been upgraded."""
        browser = read_processes(self.path).get("browser")
        try:
            return browser is not None and os.readlink(f"/proc/{browser.pid}/exe").endswith(_DELETED)  # noqa: PTH115 - a text
        except OSError:  # it has ended, which others find
            return False

    def memory_bytes(self, pid: int) -> int:
        """Return the proportional set size of a process, its driver and its browser; reads all of /proc."""
        return sum(map(processes.pss_bytes, processes.descendants(pid) | self.browser_pids()))

    def kill_leftovers(self) -> set[int]:
        """Kill the driver and the browser's group, if they still are the ones recorded; return those that were alive.

        A process of this child shows the run folder, which has a random name: in its environment, where it is TMPDIR,
        or on its command line.
        """
        recorded, killed = read_processes(self.path), set[int]()
        driver, browser = recorded.get("driver"), recorded.get("browser")
        if driver is not None and driver.is_alive():
            killed.add(driver.pid)
            driver.kill()
        if browser is not None and browser.has_group(mark := str(self.path)):
            killed.update(group_members(browser.pid))
            browser.kill_group(mark)
            killed.update(group_members(browser.pid))  # born meanwhile, and doomed too
        return killed


def delete_later(path: Path | None) -> None:
    """Delete a tree, if there is one, in the background: the next start needs the folder, not the space.

    Raises RuntimeError if there is no thread for it.
    """
    if path is not None:
        asyncio.get_running_loop().run_in_executor(None, delete, path)


def delete(path: Path) -> None:
    """Delete a tree; what vanishes meanwhile, or grows, is no error."""
    for _ in range(3):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return

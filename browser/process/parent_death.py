"""Bind processes to each other's lives, and notice their deaths at once.

Child, driver and browser are each started through `setpriv --pdeathsig KILL`: the kernel then kills each
when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG). So processes must be spawned from a thread that
lasts as long as they shall.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from browser.errors import BrowserLost, EngineMissing
from contract.processes import ProcessIdentity
from contract.run_folder import Role

BIN_DIR = Path(__file__).resolve().parent / "bin"


def wrapper(role: Role) -> Path:
    """Return the program to start instead of the real one. Raises EngineMissing without setpriv."""
    if shutil.which("setpriv") is None:
        raise EngineMissing(
            "setpriv is not on PATH, and without it a killed child would leave its browser running; "
            "install the package util-linux"
        )
    return BIN_DIR / f"bound-{role}"


def wrapper_environment(role: Role, executable: Path, run_dir: Path) -> dict[str, str]:
    """Return the variables that the wrapper reads: what to start, and the file to write its process id to."""
    name = role.upper()
    return {
        f"TABFLEET_{name}_EXECUTABLE": str(executable),
        f"TABFLEET_{name}_PID_FILE": str(_pid_file(run_dir, role)),
    }


def _pid_file(run_dir: Path, role: Role) -> Path:
    return run_dir / f"{role}.pid"


def started_process(run_dir: Path, role: Role) -> ProcessIdentity:
    """Return the process whose id the wrapper wrote down. Raises BrowserLost if it is not alive."""
    try:
        pid = int(_pid_file(run_dir, role).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        raise BrowserLost(f"the {role} did not start") from None
    process = ProcessIdentity.of(pid)
    if process is None:
        raise BrowserLost(f"the {role} ended while it was starting")
    return process


@dataclass
class DeathWatch:
    """Calls back, in the running event loop, as soon as a watched process ends.

    By pidfd_open(2): neither driver nor browser is a child of this process, so waitpid(2) says nothing of them.
    """

    on_death: Callable[[Role], None]
    _descriptors: dict[Role, int] = field(default_factory=dict)

    def add(self, role: Role, process: ProcessIdentity) -> None:
        """Watch a process. Raises BrowserLost if it is gone already."""
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            raise BrowserLost(f"the {role} ended while it was starting") from None
        self._descriptors[role] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._ended, role)

    def close(self) -> None:
        """Watch none any more."""
        for role in list(self._descriptors):
            self._forget(role)

    def _ended(self, role: Role) -> None:
        self._forget(role)
        self.on_death(role)

    def _forget(self, role: Role) -> None:
        descriptor = self._descriptors.pop(role)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def wait_gone(process: ProcessIdentity, timeout_s: float) -> bool:
    """Wait up to timeout_s seconds for a process to end. Returns whether it did."""
    try:
        async with asyncio.timeout(timeout_s):
            # A pidfd would say it at once; but this runs once at an end, and 10 ms later is soon enough.
            while process.is_alive():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        return False
    return True

"""Binding processes to each other's lives, and noticing their deaths at once.

Child, driver and browser are each started through `setpriv --pdeathsig KILL`: the kernel then kills each
when the thread that started it ends. So processes must be spawned from a thread that lasts.
"""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from browser.errors import BrowserLost, EngineMissing
from contract.files import write_private

Role = Literal["driver", "browser"]
BIN_DIR = Path(__file__).resolve().parent / "bin"
PROCESSES_FILE = "processes.json"
_START_TIME_FIELD = 22


def wrapper(role: Role) -> Path:
    """Return the program to start instead of the real one. Raises EngineMissing without setpriv."""
    if shutil.which("setpriv") is None:
        raise EngineMissing(
            "setpriv is not on PATH, and without it a killed child would leave its browser running; "
            "install the package util-linux"
        )
    return BIN_DIR / f"bound-{role}"


def wrapper_environment(role: Role, executable: Path, run_dir: Path) -> dict[str, str]:
    """Return the variables that the wrapper reads: what to start, and where to note its process id."""
    name = role.upper()
    return {
        f"TABFLEET_{name}_EXECUTABLE": str(executable),
        f"TABFLEET_{name}_PID_FILE": str(_pid_file(run_dir, role)),
    }


def _pid_file(run_dir: Path, role: Role) -> Path:
    return run_dir / f"{role}.pid"


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one of the same id; start_time in clock ticks."""

    pid: int
    start_time: int

    def is_alive(self) -> bool:
        return start_time(self.pid) == self.start_time

    def kill(self) -> None:
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def kill_group(self) -> None:
        """Kill every process of the group that this one leads or led, if the id is still its own."""
        if start_time(self.pid) not in (None, self.start_time):
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (see proc(5)); None if it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[_START_TIME_FIELD - 4])


def read_noted(run_dir: Path, role: Role) -> Process:
    """Return the process that the wrapper noted. Raises BrowserLost if it is not alive."""
    try:
        pid = int(_pid_file(run_dir, role).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        raise BrowserLost(f"the {role} did not start") from None
    started = start_time(pid)
    if started is None:
        raise BrowserLost(f"the {role} ended while it was starting")
    return Process(pid, started)


def note_processes(run_dir: Path, processes: Mapping[Role, Process]) -> None:
    """Write processes.json for whoever cleans up after us: the driver's pid, the browser's process group."""
    names: dict[Role, str] = {"driver": "pid", "browser": "pgid"}
    data = {role: {names[role]: process.pid, "start_time": process.start_time} for role, process in processes.items()}
    write_private(run_dir / PROCESSES_FILE, json.dumps(data).encode())


@dataclass
class DeathWatch:
    """Calls back, in the running loop, at the instant a watched process ends."""

    on_death: Callable[[Role], None]
    _descriptors: dict[Role, int] = field(default_factory=dict)

    def add(self, role: Role, process: Process) -> None:
        """Watch a process. Raises BrowserLost if it is gone already."""
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            raise BrowserLost(f"the {role} ended while it was starting") from None
        self._descriptors[role] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._ended, role)

    def close(self) -> None:
        for role in list(self._descriptors):
            self._forget(role)

    def _ended(self, role: Role) -> None:
        self._forget(role)
        self.on_death(role)

    def _forget(self, role: Role) -> None:
        descriptor = self._descriptors.pop(role)
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)


async def wait_gone(process: Process, timeout_s: float) -> bool:
    """Wait up to timeout_s seconds for a process to end. Returns whether it did."""
    try:
        async with asyncio.timeout(timeout_s):
            while process.is_alive():  # noqa: ASYNC110 - not our child: nothing tells us
                await asyncio.sleep(0.01)
    except TimeoutError:
        return False
    return True

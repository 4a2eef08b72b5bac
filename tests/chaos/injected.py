"""`tests.coordinator.run_with_fakes`, with faults that the kernel cannot be asked for without privileges.

FOLDER comes first, then the arguments of `run_with_fakes`. A file in it switches a fault on:

clock    holds by how many seconds the wall clock is wrong
forks    neither a thread nor a process can be started (EAGAIN, as at RLIMIT_NPROC or pids.max)
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLOCK, FORKS = "clock", "forks"


def wrong_clock(folder: Path, right: Callable[[], float]) -> float:
    """Return the time of the wall clock, with the error that is switched on."""
    try:
        return right() + float((folder / CLOCK).read_text())
    except OSError:  # it is not there, or no descriptor is left to read it
        return right()


def unless_switched_on(switch: Path, do: Callable[..., Any], error: Callable[[], Exception]) -> Callable[..., Any]:
    """Return `do`, which raises the error instead while the file `switch` is there."""

    def maybe(*args: Any, **options: Any) -> Any:
        if switch.exists():
            raise error()
        return do(*args, **options)

    return maybe


def inject(folder: Path) -> None:
    """Patch this process; before anything is imported that keeps the functions under names of its own."""
    right, modules = time.time, (threading, subprocess)
    time.time = lambda: wrong_clock(folder, right)
    errors: tuple[Callable[[], Exception], ...] = (
        lambda: RuntimeError("can't start new thread"),
        lambda: BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)),
    )
    for module, name, error in zip(modules, ("_start_new_thread", "_fork_exec"), errors, strict=True):
        setattr(module, name, unless_switched_on(folder / FORKS, getattr(module, name), error))


if __name__ == "__main__":
    folder, evidence, *flags = sys.argv[1:]
    inject(Path(folder))
    # Only now: see inject().
    from tests.coordinator import run_with_fakes

    run_with_fakes.run(evidence, flags)

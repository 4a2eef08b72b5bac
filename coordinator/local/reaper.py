"""The duty of process 1: reap orphans, without taking the exit codes of our own children.

Used only where the coordinator itself is process 1 of a container: the images have `tini` as their entry point, which
reaps, but an entry point can be overridden (`podman run --entrypoint`, `command:` of a Kubernetes manifest).

Killed browsers leave descendants that are handed to process 1. `waitpid(-1)` would now and then take the
exit code of a child that asyncio waits for; so look first who is next (WNOWAIT), and stop there if it is
our own, or may be because a spawn is in flight. The end of either brings us back here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection
from typing import Protocol


class Owner(Protocol):
    """Who has children of its own that nobody else may reap."""

    @property
    def own_pids(self) -> Collection[int]:
        """Its children that it waits for itself."""

    @property
    def spawning(self) -> int:
        """How many children it is spawning, whose pids it does not know yet."""

    on_reaped: Callable[[], None]
    """Called when a child of its own has been reaped, and when a spawn is over."""


class Reaper:
    """Reaps what is not the owner's, on every SIGCHLD and whenever `reap` is called."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.reaped = 0

    def install(self) -> None:
        """Begin; needs the main thread's plain asyncio loop (uvloop refuses SIGCHLD handlers)."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)
        self._owner.on_reaped = self.reap
        self.reap()

    def reap(self) -> None:
        """Reap all orphans that come before the first zombie of our own."""
        while True:
            try:
                zombie = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:  # there are no children at all
                return
            if zombie is None or self._owner.spawning or zombie.si_pid in self._owner.own_pids:
                return
            with contextlib.suppress(ChildProcessError):  # somebody else was quicker
                os.waitpid(zombie.si_pid, os.WNOHANG)
                self.reaped += 1


def install_if_process_1(owner: Owner) -> Reaper | None:
    """Install a Reaper if we are process 1; with `tini` in front of us there is nothing to do."""
    if os.getpid() != 1:
        return None
    reaper = Reaper(owner)
    reaper.install()
    return reaper

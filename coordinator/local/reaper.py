"""The duty of process 1: reap orphans, without taking the exit codes of our own children.

Killed browsers leave descendants that are handed to process 1. `waitpid(-1)` would now and then take the
exit code of a child that asyncio waits for; so look first who is next (WNOWAIT), and stop there if it is
our own, or may be because a spawn is in flight. The end of either brings us back here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class Owner(Protocol):
    """Who has children of its own that nobody else may reap."""

    @property
    def own_pids(self) -> Collection[int]: ...
    @property
    def spawning(self) -> int: ...

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

    def uninstall(self) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)

    def reap(self) -> None:
        """Reap all orphans that come before the first zombie of our own."""
        while (pid := self._next_orphan()) is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
                self.reaped += 1

    def _next_orphan(self) -> int | None:
        try:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if seen is None or self._owner.spawning or seen.si_pid in self._owner.own_pids:
            return None
        return seen.si_pid


def install_if_process_1(owner: Owner) -> Reaper | None:
    """Install a Reaper if we are process 1; with `tini` in front of us there is nothing to do."""
    if os.getpid() != 1:
        return None
    reaper = Reaper(owner)
    reaper.install()
    return reaper

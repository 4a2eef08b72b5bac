"""What every world has: a fleet, its profiles, and the faults that need no knowledge of what the children are."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tests.chaos import system
from tests.chaos.clients import Question
from tests.chaos.evidence import Submission
from tests.chaos.fleet import Fleet
from tests.chaos.sources import Source

Fault: TypeAlias = Callable[[str, random.Random], Awaitable[None]]
MANNERS = {"wait": 80, "leave": 14, "half": 4, "never read": 2}


@dataclass(frozen=True)
class Setting:
    """Where and with what a world's coordinator runs."""

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    source: Source
    names: tuple[str, ...]  # of the children


class World(abc.ABC):
    """Fake children, or browsers at the demo site. `fleet` is set once the coordinator runs."""

    fleet: Fleet

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._reloading = asyncio.Lock()
        self._stopped: dict[int, Callable[[int, int], None]] = {}

    # What differs

    @abc.abstractmethod
    async def put_profile(self, name: str) -> None:
        """Write a new version of a profile, logged in."""

    @abc.abstractmethod
    def question(self, number: int, rng: random.Random) -> Question:
        """Make up one request."""

    @abc.abstractmethod
    async def submissions(self) -> list[Submission]:
        """The ledger: everything that was submitted to any page."""

    @abc.abstractmethod
    def faults(self) -> Mapping[Fault, int]:
        """What can happen to a child (its name is given), and how often each beside the others."""

    # Processes

    async def kill(self, name: str, rng: random.Random) -> None:
        pid = self.fleet.pid_of(name)
        if pid is not None:
            _send(os.kill, pid, signal.SIGKILL)

    async def stop_and_continue(self, name: str, rng: random.Random) -> None:
        pid = self.fleet.pid_of(name)
        if pid is not None:
            await self.stop_for(rng.choice((0.2, 1.0, 3.0, 20.0)), pid)

    async def stop_for(self, seconds: float, pid: int, *, group: bool = False) -> None:
        """SIGSTOP a process of the fleet, or its group, and SIGCONT if it still is there after so long."""
        send = self._stopped[pid] = os.killpg if group else os.kill
        _send(send, pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._continue(pid)

    def _continue(self, pid: int) -> None:
        send = self._stopped.pop(pid, None)
        if send is not None and pid in system.marked(str(self.fleet.tmp)):
            _send(send, pid, signal.SIGCONT)

    # The operator

    async def restart(self, name: str, rng: random.Random) -> None:
        await self.fleet.post(f"/admin/children/{name}/restart")

    async def drain(self, name: str, rng: random.Random) -> None:
        await self.fleet.post(f"/admin/children/{name}/drain")

    async def change_profile(self, name: str, rng: random.Random) -> None:
        async with self._reloading:
            await self.put_profile(name)
            self.fleet.send(signal.SIGHUP)

    async def remove_and_add(self, name: str, rng: random.Random) -> None:
        async with self._reloading:
            await self.setting.source.remove(name)
            self.fleet.send(signal.SIGHUP)
            await asyncio.sleep(rng.uniform(0, 1))
            await self.put_profile(name)
            self.fleet.send(signal.SIGHUP)

    async def source_fails(self, name: str, rng: random.Random) -> None:
        """The place of the profiles is gone; a reload says so, and changes nothing."""
        async with self._reloading:
            await self.setting.source.fail()
            status = await self.fleet.post("/admin/reload")
            await self.setting.source.recover()
            assert status == 502, f"a reload without its source was answered with {status}"

    @property
    def unbroken(self) -> Collection[Fault]:
        """Faults that are not to be broken off: half of them would stay."""
        return (self.change_profile, self.remove_and_add, self.source_fails)

    async def mend(self, name: str, reason: str | None) -> None:
        """What an operator does about a child that has failed, rests, or was taken out."""
        await self.fleet.reset(name)

    async def calm(self) -> None:
        """Take back every fault that would stay."""
        for pid in tuple(self._stopped):
            self._continue(pid)


def _send(send: Callable[[int, int], None], pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        send(pid, number)

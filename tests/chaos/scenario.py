"""Base of the scenarios: a fleet, its profiles, and the faults that do not depend on the kind of child."""

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

from tests.chaos import proc
from tests.chaos.clients import ClientRequest
from tests.chaos.fleet import Fleet
from tests.chaos.profile_sources import Source
from tests.chaos.verification import Submission

Fault: TypeAlias = Callable[[str, random.Random], Awaitable[None]]
BEHAVIOURS = {"wait": 80, "leave": 14, "partial": 4, "never_read": 2}


@dataclass(frozen=True)
class ScenarioConfig:
    """Command, environment and profiles of a scenario's coordinator."""

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    source: Source
    names: tuple[str, ...]  # of the children


class Scenario(abc.ABC):
    """Requests, ledger and faults of one kind of child. `fleet` is set once the coordinator runs."""

    fleet: Fleet

    def __init__(self, config: ScenarioConfig) -> None:
        self.config = config
        self._reloading = asyncio.Lock()
        self._stopped: dict[int, Callable[[int, int], None]] = {}

    @abc.abstractmethod
    async def put_profile(self, name: str) -> None:
        """Write a new version of a profile, with a valid login."""

    @abc.abstractmethod
    def request(self, number: int, rng: random.Random) -> ClientRequest:
        """Return a random request."""

    @abc.abstractmethod
    async def submissions(self) -> list[Submission]:
        """Return the ledger: everything that was submitted to any page."""

    @abc.abstractmethod
    def faults(self) -> Mapping[Fault, int]:
        """Return the faults that can happen to a child, with their weights; each is called with the child's name."""

    async def kill(self, name: str, rng: random.Random) -> None:
        """Kill the child."""
        pid = await self.fleet.pid_of(name)
        if pid is not None:
            _send(os.kill, pid, signal.SIGKILL)

    async def stop_and_continue(self, name: str, rng: random.Random) -> None:
        """Send SIGSTOP to the child for a while."""
        pid = await self.fleet.pid_of(name)
        if pid is not None:
            await self.stop_for(rng.choice((0.2, 1.0, 3.0, 20.0)), pid)

    async def stop_for(self, seconds: float, pid: int, *, group: bool = False) -> None:
        """Send SIGSTOP to a process of the fleet, or to its group, and SIGCONT after so many seconds."""
        send = self._stopped[pid] = os.killpg if group else os.kill
        _send(send, pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._continue(pid)

    def _continue(self, pid: int) -> None:
        send = self._stopped.pop(pid, None)
        if send is not None and pid in proc.marked(str(self.fleet.tmp)):
            _send(send, pid, signal.SIGCONT)

    async def restart(self, name: str, rng: random.Random) -> None:
        """Restart the child by the admin API."""
        await self.fleet.post(f"/admin/children/{name}/restart")

    async def drain(self, name: str, rng: random.Random) -> None:
        """Drain the child by the admin API."""
        await self.fleet.post(f"/admin/children/{name}/drain")

    async def change_profile(self, name: str, rng: random.Random) -> None:
        """Write a new version of the profile and reload."""
        async with self._reloading:
            await self.put_profile(name)
            self.fleet.send(signal.SIGHUP)

    async def remove_and_add(self, name: str, rng: random.Random) -> None:
        """Remove the profile, reload, write it again and reload."""
        async with self._reloading:
            await self.config.source.remove(name)
            self.fleet.send(signal.SIGHUP)
            await asyncio.sleep(rng.uniform(0, 1))
            await self.put_profile(name)
            self.fleet.send(signal.SIGHUP)

    async def source_fails(self, name: str, rng: random.Random) -> None:
        """Make the profile source unavailable during a reload, which must fail with 502."""
        async with self._reloading:
            await self.config.source.fail()
            status = await self.fleet.post("/admin/reload")
            await self.config.source.recover()
            assert status == 502, f"a reload without its source returned {status}"

    @property
    def uninterruptible(self) -> Collection[Fault]:
        """Return the faults that must not be cancelled, because they would leave half a change."""
        return (self.change_profile, self.remove_and_add, self.source_fails)

    async def repair(self, name: str, reason: str | None) -> None:
        """Do what an operator does about a child that is FAILED, RESTING or STOPPED."""
        await self.fleet.reset(name)

    async def clear_faults(self) -> None:
        """Undo every fault that lasts."""
        for pid in tuple(self._stopped):
            self._continue(pid)


def _send(send: Callable[[int, int], None], pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        send(pid, number)

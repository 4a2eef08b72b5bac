"""All hosts of a launcher: which child starts in which."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from contract.host_orders import ChildOrder
from coordinator.local.host import HostedChild, HostProcess
from coordinator.local.output import Logs, Output
from coordinator.local.run_folder import RunFolder
from coordinator.local.run_root import RunRoot
from coordinator.local.spares import Spares
from coordinator.supervision.launcher import ChildSpec, Company
from coordinator.supervision.ports import StreamPorts

log = structlog.get_logger(__name__)

_CLEAN_UP_AGAIN_S: Final = 2.0


class Hosts:
    """The hosts that run, none at first; spares among them."""

    def __init__(  # noqa: PLR0913 - all but three by keyword
        self,
        logins_per_browser: int,
        ports: StreamPorts,
        logs: Logs,
        *,
        root: Callable[[], RunRoot],
        spare_browsers: int = 0,
        spawn: Callable[[HostProcess, int], Awaitable[asyncio.subprocess.Process]],
        changed: Callable[[], object],
    ) -> None:
        """`spawn` starts a host's process; `changed` is called when one has been started, and when one has ended.

        `root` returns where their run folders are, once it is open.
        """
        self._logins_per_browser, self._ports, self._logs = logins_per_browser, ports, logs
        self._root, self._spawn, self._tell_changed = root, spawn, changed
        self._hosts: dict[int, HostProcess] = {}
        """By their numbers, the lowest that are free: so log files of hosts do not become more and more."""
        self.spares = Spares(spare_browsers, new=self._new_spare, clean_up=self._clean_up)

    @property
    def all(self) -> tuple[HostProcess, ...]:
        """Those that run, and those of which something is left."""
        return tuple(self._hosts.values())

    @property
    def pids(self) -> frozenset[int]:
        """The ids of the processes that have not been waited for yet."""
        return frozenset(host.pid for host in self._hosts.values() if host.pid is not None and host.running)

    def with_room(self, site: str | None, *, suspects: bool = False) -> HostProcess | None:
        """Return the host of this site with room and the fewest children, if there is one that takes any.

        `suspects` says whether it is to be one of suspects; no host is for them and for others.
        """
        fitting = (
            host
            for host in self._hosts.values()
            if host.site == site and not host.is_spare and host.has_suspects == suspects
            if host.count < self._logins_per_browser and host.takes_children
        )
        return min(fitting, key=lambda host: host.count, default=None)

    async def start(self, spec: ChildSpec, order: ChildOrder, folder: RunFolder, output: Output) -> HostedChild:
        """Start a child in a host that has room, else in a spare, else in a new one. Raises OSError or RuntimeError.

        A suspect takes no spare: it may be the one that ends browsers. Where a new host fails, nothing of it is left
        then: its stream port is free before the child's slot is.
        """
        site, suspect = spec.login.site, spec.company is Company.SUSPECTS

        def fitting() -> HostProcess | None:
            host = self.with_room(site, suspects=suspect)
            return host if host is not None or suspect else self._take_spare(site, spec.name)

        while (host := fitting()) is not None:
            try:
                return await host.start(spec, order, folder, output)
            except (OSError, RuntimeError):  # it hangs or has just died, and has retired
                await self._clean_up(host)
        host = self._new(site)
        if suspect:
            host.hold_suspects()
        try:
            return await host.start(spec, order, folder, output)
        except (OSError, RuntimeError):
            await self._clean_up(host)
            raise

    def _take_spare(self, site: str | None, child: str) -> HostProcess | None:
        host = self.spares.take(site)
        if host is not None:
            log.info("spare_browser_taken", host=host.name, child=child)
        return host

    def _new_spare(self) -> HostProcess:
        self._root().restore()
        return self._new(None, spare=True)

    def _changed(self) -> None:
        self._tell_changed()
        self.spares.look()

    async def _clean_up(self, host: HostProcess) -> None:
        """Clean up after a host that no child is left to clean up after."""
        while host.is_over:
            try:
                await host.clean_up()
            except (OSError, RuntimeError):
                await asyncio.sleep(_CLEAN_UP_AGAIN_S)
            else:
                return

    def _new(self, site: str | None, *, spare: bool = False) -> HostProcess:
        number = next(number for number in itertools.count(1) if number not in self._hosts)
        name = f"@host-{number}"  # no login's name begins with this
        port, output = self._ports.take(), None

        def gone(host: HostProcess) -> None:
            del self._hosts[number]
            self._ports.give_back(host.stream_port)
            self._logs.close(name)

        try:
            folder = self._root().host_folder(number)
            folder.prepare()
            output = Output(self._logs.writer(name))
            host = HostProcess(
                name=name,
                site=site,
                spare=spare,
                stream_port=port,
                folder=folder,
                output=output,
                spawn=self._spawn,
                changed=self._changed,
                gone=gone,
            )
        except OSError:
            if output is not None:
                output.close()
            self._ports.give_back(port)
            raise
        self._hosts[number] = host
        return host

    async def close(self) -> None:
        """Kill all that run, and wait for their ends."""
        self.spares.end()
        await asyncio.gather(*(host.close() for host in self._hosts.values()))
        await self.spares.close()

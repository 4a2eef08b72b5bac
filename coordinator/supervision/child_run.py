"""One start of one child: from the spawn to the moment when nothing of it is left.

A run does what its child's process needs and decides nothing: it reports what it sees to a listener, its child.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from coordinator.errors import LaunchError
from coordinator.proxy.pool import Backend
from coordinator.supervision.child_client import ChildClient
from coordinator.supervision.launcher import ChildProcess, ChildSpec, Launcher
from coordinator.supervision.ready_probe import ProbeResult
from coordinator.supervision.tasks import Tasks

log = structlog.get_logger(__name__)

_CLEAN_UP_AGAIN_S: Final = 2.0


class RunListener(Protocol):
    """Who hears how a run goes: `started`, any number of `probed`, `exited`, `cleaned`, in this order.

    A run whose process could not be started reports `exited` and `cleaned` only.
    """

    def started(self, run: ChildRun, process: ChildProcess) -> None:
        """The process exists."""

    def probed(self, run: ChildRun, result: ProbeResult) -> None:
        """The child's `/ready` was asked."""

    def exited(self, run: ChildRun, exit_code: int | None, detail: str | None) -> None:
        """The process has ended; `exit_code` None: it never began, and `detail` says why."""

    def cleaned(self, run: ChildRun, killed: int, took_s: float) -> None:
        """Nothing of it is left; `killed` processes had outlived it. `took_s` counts from the exit."""


class ChildRun:
    """One start of one child: its process, its backend, its probes and its clean-up."""

    def __init__(  # noqa: PLR0913 - what it is given is what it may use
        self,
        spec: ChildSpec,
        listener: RunListener,
        *,
        fingerprint: str,
        models: tuple[str, ...],
        launcher: Launcher,
        client: ChildClient,
        tasks: Tasks,
        clock: Callable[[], float],
        probe_interval_s: float,
    ) -> None:
        """`models` are those that the child is expected to serve; `fingerprint` is that of the login it uses."""
        self.spec = spec
        self.fingerprint = fingerprint
        self.backend = Backend(
            name=spec.name,
            url=f"http://127.0.0.1:{spec.api_port}",
            generation=spec.generation,
            models=models,
            site=spec.login.site_name,
            weight=spec.login.weight,
            token=spec.control_token,
        )
        self.began_at = clock()
        self.probe_interval_s = probe_interval_s
        """Seconds between two probes; the listener may change it at any time."""
        self.process: ChildProcess | None = None
        self.ended = asyncio.Event()
        """The process has exited."""
        self.gone = asyncio.Event()
        """The process has exited, and nothing of it is left."""
        self._listener = listener
        self._launcher, self._client, self._tasks, self._clock = launcher, client, tasks, clock
        self._submitted: frozenset[str] | None = None
        self._terminate_requested = self._kill_requested = self._fence_requested = False

    @property
    def running(self) -> bool:
        """Whether there is a process now."""
        return self.process is not None and not self.ended.is_set()

    def begin(self) -> None:
        """Start the process, in a task of its own."""
        self._tasks.spawn(self._run(), f"child {self.spec.name} #{self.spec.generation}")

    def terminate(self) -> None:
        """Ask the process to end, as soon as there is one."""
        self._terminate_requested = True
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """End the process at once, or as soon as there is one."""
        self._kill_requested = True
        if self.process is not None:
            self.process.kill()

    def fence(self) -> None:
        """End the process, and everything that shares its browser, at once, or as soon as there is one."""
        self._fence_requested = True
        if self.process is not None:
            self.process.fence()

    async def _run(self) -> None:
        try:
            self.process = process = await self._launcher.start(self.spec)
        except LaunchError as error:
            self._submitted = frozenset()
            self.ended.set()
            self._listener.exited(self, None, str(error))
            self.gone.set()
            self._listener.cleaned(self, 0, 0.0)
            return
        self.backend.url = process.url
        self._listener.started(self, process)
        # An order that came while the process was being spawned had nobody to go to.
        if self._fence_requested:
            process.fence()
        elif self._kill_requested:
            process.kill()
        elif self._terminate_requested:
            process.terminate()

        probing = self._tasks.spawn(self._probe(process.url), f"probe {self.spec.name}")
        try:
            exit_code = await process.wait()
        finally:
            probing.cancel()

        # Read before the clean-up empties the run folder.
        self._submitted = process.submitted()
        self.ended.set()
        self._listener.exited(self, exit_code, None)

        exited_at = self._clock()
        killed = await self._clean_up(process)
        self.gone.set()
        self._listener.cleaned(self, killed, self._clock() - exited_at)

    async def _clean_up(self, process: ChildProcess) -> int:
        """Clean up, again and again where that fails: the next start must not meet what this one left."""
        said = False
        while True:
            try:
                return await process.clean_up()
            except (OSError, RuntimeError) as error:
                if not said:
                    log.warning("clean_up_failed", child=self.spec.name, error=str(error), again_s=_CLEAN_UP_AGAIN_S)
                said = True
            await asyncio.sleep(_CLEAN_UP_AGAIN_S)

    async def _probe(self, url: str) -> None:
        probe = self._client.ready_probe(url, self.spec.instance_id)
        try:
            while True:
                result = await probe.probe()
                if not self.ended.is_set():
                    self._listener.probed(self, result)
                await asyncio.sleep(self.probe_interval_s)
        finally:
            probe.close()

    async def cancel(self, request_id: str, *, exit_notice_s: float) -> bool:
        """Stop a request; True if the child confirms that its page is fresh again, or has ended.

        Waits up to `exit_notice_s` seconds for the news of the exit of a child that does not answer.
        """
        if self.ended.is_set() or await self._client.cancel(self.backend.url, self.spec.control_token, request_id):
            return True
        return await self.ends_within(exit_notice_s)

    async def screenshot(self) -> bytes:
        """Return a PNG of what the page shows now. Raises NoPage, PageSilent, PageFailed."""
        return await self._client.screenshot(self.backend.url, self.spec.control_token)

    def submitted(self) -> frozenset[str] | None:
        """Return the ids that may have been submitted, None if they cannot be read; final once it has ended."""
        if self.ended.is_set() or self.process is None:
            return self._submitted
        return self.process.submitted()

    async def ends_within(self, timeout_s: float) -> bool:
        """Return whether the process has ended; wait up to timeout_s seconds for that."""
        try:
            await asyncio.wait_for(self.ended.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

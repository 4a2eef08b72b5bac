"""One start of one child: from the spawn to the moment when nothing of it is left."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from coordinator.errors import LaunchError
from coordinator.proxy.pool import Backend
from coordinator.supervision.events import ChildCleaned, ChildStarted
from coordinator.supervision.launcher import ChildSpec
from coordinator.supervision.lifecycle import Event, Reason, State

if TYPE_CHECKING:
    from coordinator.supervision.child import Child
    from coordinator.supervision.launcher import RunningChild
    from coordinator.supervision.plan import Slot
    from coordinator.supervision.probe import Probed


class Life:
    """A process and its probe. What it reports counts only while it is its child's present life."""

    def __init__(self, child: Child, slot: Slot, generation: int) -> None:
        self.child = child
        self.login = child.profile.fingerprint
        self.spec = ChildSpec(
            name=child.name,
            profile_path=child.profile.path,
            api_port=slot.api_port,
            stream_port=slot.stream_port,
            generation=generation,
            instance_id=secrets.token_hex(8),
            control_token=secrets.token_urlsafe(24),
        )
        self.backend = Backend(
            name=child.name,
            url=f"http://127.0.0.1:{slot.api_port}",
            generation=generation,
            models=child.models,
            token=self.spec.control_token,
        )
        self.began = child.shared.clock()
        self.first_ready_at: float | None = None
        self.ready_s = 0.0
        self.process: RunningChild | None = None
        self.ended = asyncio.Event()  # the process has exited
        self.gone = asyncio.Event()  # and nothing of it is left
        self.unconfirmed = False  # a cancel failed: the page may still be in somebody's conversation
        self._submitted: frozenset[str] | None = None
        self._told_to_stop = self._told_to_die = False
        self._passes = self._fails = 0

    # Orders

    def begin(self) -> None:
        self.child.shared.tasks.spawn(self._run(), f"child {self.child.name} #{self.spec.generation}")

    def terminate(self) -> None:
        self._told_to_stop = True
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        self._told_to_die = True
        if self.process is not None:
            self.process.kill()

    def submitted(self) -> frozenset[str] | None:
        """Ids that may have been submitted: final once the child has ended, else as of now."""
        if self.ended.is_set() or self.process is None:
            return self._submitted
        return self.process.submitted()

    async def ends_within(self, timeout_s: float) -> bool:
        """Whether the process has ended; waits up to timeout_s seconds for that."""
        try:
            await asyncio.wait_for(self.ended.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def doubt(self) -> None:
        """Take the child out of routing until its page is seen free: a cancel was not confirmed."""
        self.unconfirmed, self._passes = True, 0
        self.child.fire(Event.PROBE_FAILED, Reason.CANCEL_FAILED, generation=self.spec.generation)

    # The course of it

    async def _run(self) -> None:
        shared = self.child.shared
        try:
            self.process = process = await shared.launcher.start(self.spec)
        except LaunchError as error:
            self._submitted = frozenset()
            self._end(None, str(error))
            self.child.cleaned()
            return
        shared.hooks.emit(ChildStarted(self.child.name, self.spec.generation, process.pid, process.url))
        self.backend.url = process.url
        if self._told_to_die:
            process.kill()
        elif self._told_to_stop:
            process.terminate()
        probing = shared.tasks.spawn(self._probe(process.url), f"probe {self.child.name}")
        try:
            exit_code = await process.wait()
        finally:
            probing.cancel()
        self._submitted = process.submitted()
        self._end(exit_code, None)
        await self._clean_up(process)

    def _end(self, exit_code: int | None, detail: str | None) -> None:
        self.ended.set()
        self.child.exited(self, exit_code, detail)

    async def _clean_up(self, process: RunningChild) -> None:
        shared = self.child.shared
        since = shared.clock()
        killed = await process.clean_up()
        took_s = shared.clock() - since
        shared.hooks.emit(ChildCleaned(self.child.name, self.spec.generation, killed, took_s))
        self.child.cleaned()

    # Health

    async def _probe(self, url: str) -> None:
        policy, client = self.child.shared.policy, self.child.shared.client
        while True:
            self.judge(await client.probe(url, self.spec.instance_id))
            starting = self.child.phase.state is State.STARTING
            await asyncio.sleep(policy.start_probe_interval_s if starting else policy.probe_interval_s)

    def judge(self, seen: Probed) -> None:
        """Take one probe into account; fires at most one event."""
        if self.ended.is_set():
            return
        if not seen.busy:
            self.unconfirmed = False
        self.child.learn(seen)
        if seen.ok:
            self._passed()
        elif seen.reason is Reason.LOGIN_EXPIRED:
            self._fire(Event.LOGIN_EXPIRED, seen)
        elif seen.reason is Reason.QUOTA:
            self.child.rest_s = seen.rest_s
            self._fire(Event.QUOTA, seen)
        else:
            self._failed(seen)

    def _passed(self) -> None:
        self._fails, self._passes = 0, self._passes + 1
        unhealthy = self.child.phase.state is State.UNHEALTHY
        enough = not unhealthy or self._passes >= self.child.shared.policy.healthy_after
        if enough and not self.unconfirmed:
            self.child.fire(Event.PROBE_OK, generation=self.spec.generation)

    def _failed(self, seen: Probed) -> None:
        self._passes, self._fails = 0, self._fails + 1
        state = self.child.phase.state
        if state is State.READY and self._fails >= self.child.shared.policy.unhealthy_after:
            self._fire(Event.PROBE_FAILED, seen)
        elif state is State.UNHEALTHY or (state is State.STARTING and seen.reason is not Reason.PROBE_FAILED):
            self.child.explain(seen.reason, seen.detail)

    def _fire(self, event: Event, seen: Probed) -> None:
        self.child.fire(event, seen.reason, seen.detail, generation=self.spec.generation)

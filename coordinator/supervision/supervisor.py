"""All children: who may start, what the operator asks, how it ends."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from coordinator.errors import ActionRefused, NoPage, UnknownChild
from coordinator.supervision.child import Child, Shared
from coordinator.supervision.events import Hooks
from coordinator.supervision.lifecycle import Event, Reason, State
from coordinator.supervision.memory_watch import watch_memory
from coordinator.supervision.policy import Policy
from coordinator.supervision.probe import ChildClient
from coordinator.supervision.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from contract.keys import KeyStore
    from coordinator.proxy.pool import Backend, Pool
    from coordinator.supervision.child import Profile
    from coordinator.supervision.child_run import Life
    from coordinator.supervision.events import FleetEvent
    from coordinator.supervision.launcher import Launcher
    from coordinator.supervision.plan import PortPlan, Slot
    from coordinator.supervision.view import ChildView

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Reconciled:
    """What a new set of profiles changed, by names of children."""

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    removed: tuple[str, ...]


class Supervisor:
    """Keeps one child per profile as its table says. Make it inside a running loop."""

    def __init__(  # noqa: PLR0913 - clock, chance, transport and spawning are arguments
        self,
        *,
        launcher: Launcher,
        pool: Pool,
        ports: PortPlan,
        policy: Policy | None = None,
        client: ChildClient | None = None,
        hooks: Iterable[Callable[[FleetEvent], None]] = (),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.policy = policy or Policy()
        self._launcher, self._pool, self._ports = launcher, pool, ports
        self._client = client or ChildClient()
        self._tasks = Tasks()
        self._children: dict[str, Child] = {}
        self._returning: dict[str, Profile] = {}
        self._places: dict[Child, asyncio.TimerHandle] = {}
        self._settling: asyncio.Handle | None = None
        self._shared = Shared(
            launcher, pool, self._client, self.policy, self._tasks, Hooks(hooks), clock, wall, rand, self._soon
        )

    # What it shows

    @property
    def failed(self) -> asyncio.Future[None]:
        """Fails with SupervisorFailed if a task that keeps the fleet alive breaks; else never done."""
        return self._tasks.failed

    @property
    def ready(self) -> bool:
        """Whether at least one child is READY and nothing drains the whole."""
        return not self._pool.draining and any(c.phase.state is State.READY for c in self._children.values())

    def snapshot(self) -> tuple[ChildView, ...]:
        """Return all children as they are now, in a stable order."""
        return tuple(child.view() for child in self._children.values())

    def child(self, name: str) -> Child:
        """Return the child of that name. Raises UnknownChild."""
        try:
            return self._children[name]
        except KeyError:
            raise UnknownChild(name) from None

    # Profiles

    async def start(self, profiles: Iterable[Profile]) -> None:
        """Begin to supervise; returns at once, children become READY in their own time."""
        await self.reconcile(profiles)
        if self.policy.memory_limit_bytes:
            watch = watch_memory(lambda: tuple(self._children.values()), self.policy)
            self._tasks.spawn(watch, "memory watch")

    def use_keys(self, keys: KeyStore) -> None:
        """From now on children accept these API keys, those that run too. Raises LaunchError."""
        self._launcher.use_keys(keys)

    async def reconcile(self, profiles: Iterable[Profile]) -> Reconciled:
        """Make these the profiles: start new ones, replace changed ones, drain those that are gone.

        A changed child is replaced after its running answer (or `drain_timeout_s`). Does not wait for
        any of it. Raises ActionRefused while draining.
        """
        self._refuse_if_draining()
        wanted = {profile.name: profile for profile in profiles}
        self._returning.clear()
        added = tuple(name for name in wanted if self._is_new(name))
        changed = tuple(name for name, child in self._children.items() if self._has_changed(child, wanted))
        removed = tuple(name for name, c in self._children.items() if name not in wanted and not c.leaving)
        for name in added:
            self._add(wanted[name])
        for name in changed:
            self._children[name].change_profile(wanted[name])
        for name in removed:
            self._remove(self._children[name])
        self._soon()
        return Reconciled(added, changed, removed)

    def _is_new(self, name: str) -> bool:
        return name not in self._children or self._children[name].leaving

    def _has_changed(self, child: Child, wanted: dict[str, Profile]) -> bool:
        profile = wanted.get(child.name)
        return profile is not None and not child.leaving and profile.sha256 != child.profile.sha256

    def _add(self, profile: Profile) -> None:
        if profile.name in self._children:
            self._returning[profile.name] = profile  # the old one still has to go
        else:
            self._children[profile.name] = Child(profile, self._shared)

    def _remove(self, child: Child) -> None:
        child.leaving = True
        child.fire(Event.PROFILE_GONE, Reason.PROFILE_GONE)

    # The operator's actions

    def restart(self, name: str) -> None:
        """Replace the process after its running answer; start one that rests, failed or waits, now.

        Raises UnknownChild, ActionRefused.
        """
        child = self._for_action(name)
        if child.phase.state is State.BACKOFF:
            child.hurry()
        elif not child.fire(Event.RESTART, Reason.RESTART) and not child.fire(Event.RESET, Reason.WAITING):
            raise ActionRefused(f"Child {name!r} is {child.phase}; there is nothing to restart.")

    def reset(self, name: str) -> None:
        """End a rest, a failure or an operator's drain. Raises UnknownChild, ActionRefused."""
        child = self._for_action(name)
        if not child.fire(Event.RESET, Reason.WAITING):
            raise ActionRefused(f"Child {name!r} is {child.phase}; there is nothing to reset.")

    def drain(self, name: str) -> None:
        """Take a child out after its running answer, until `reset`. Raises UnknownChild, ActionRefused."""
        child = self._for_action(name)
        if not child.fire(Event.DRAIN, Reason.DRAINED):
            raise ActionRefused(f"Child {name!r} is {child.phase}; there is nothing to drain.")

    async def screenshot(self, name: str) -> bytes:
        """Return a PNG of what a child's page shows now. Raises UnknownChild, NoPage, PageSilent, PageFailed."""
        child = self.child(name)
        if child.life is None or child.life.process is None or child.life.ended.is_set():
            raise NoPage(f"Child {name!r} is {child.phase}; it has no page now.")
        return await self._client.screenshot(child.life.backend.url, child.life.spec.control_token)

    def _for_action(self, name: str) -> Child:
        self._refuse_if_draining()
        child = self.child(name)
        if child.leaving:
            raise ActionRefused(f"Child {name!r} is leaving: its profile is gone.")
        return child

    def _refuse_if_draining(self) -> None:
        if self._pool.draining:
            raise ActionRefused("The coordinator is shutting down.")

    # Requests

    async def cancel(self, backend: Backend, request_id: str) -> bool:
        """Stop a request; True if the page is fresh again, or its child is dead: the lease may end.

        On False the child is UNHEALTHY until its page is seen free. Takes `cancel_timeout_s` at most, and then
        `exit_notice_s` until a child that does not answer is known not to be dead.
        """
        life = self._life_of(backend)
        if life is None or life.ended.is_set():
            return True
        if await self._client.cancel(backend.url, backend.token, request_id):
            return True
        if await life.ends_within(self.policy.exit_notice_s):
            return True
        life.doubt()
        return False

    def was_submitted(self, backend: Backend, request_id: str) -> bool | None:
        """Whether the prompt may have reached the page; None if that cannot be told.

        Final only if the child is dead or has confirmed the cancel of this request.
        """
        life = self._life_of(backend)
        ids = life.submitted() if life else None
        return None if ids is None else request_id in ids

    async def may_retry(self, backend: Backend, request_id: str) -> bool:
        """Whether a request whose connection broke without a head may safely go to another child.

        True only if this child is dead, or confirms the cancel, and the id is not marked as submitted.
        """
        life = self._life_of(backend)
        if life is None:
            return False
        if not await life.ends_within(self.policy.exit_notice_s) and not await self.cancel(backend, request_id):
            return False
        return self.was_submitted(backend, request_id) is False

    def _life_of(self, backend: Backend) -> Life | None:
        child = self._children.get(backend.name)
        lives = child.lives if child else ()
        return next((life for life in lives if life.backend is backend), None)

    # The end

    def begin_drain(self) -> None:
        """Refuse new requests, stop idle children, let running answers finish. At once; `/ready` is 503."""
        self._pool.begin_drain()
        self._returning.clear()
        for child in tuple(self._children.values()):
            child.fire(Event.SHUTDOWN, Reason.SHUTDOWN)

    async def wait_drained(self, timeout_s: float) -> bool:
        """Wait until no lease is out; False if some are after timeout_s seconds."""
        try:
            await asyncio.wait_for(self._pool.wait_idle(), timeout_s)
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End every child now, running answers included, and remove what they leave. Idempotent.

        Bounded by `term_grace_s` + `reap_timeout_s`; the streams of clients are to be ended before.
        """
        self.begin_drain()
        for child in tuple(self._children.values()):
            child.fire(Event.DRAIN_DEADLINE)
        limit_s = self.policy.term_grace_s + self.policy.reap_timeout_s
        _, late = await asyncio.wait({self._tasks.spawn(self._all_over(), "stop")}, timeout=limit_s)
        if late:
            log.error("stop_incomplete", children=[c.name for c in self._children.values() if not c.clean])
        await self._tasks.cancel_all()
        await self._client.close()
        await self._launcher.close()

    async def drain_and_stop(self) -> None:
        """Do all of it: begin_drain, wait for running answers up to `drain_timeout_s`, stop."""
        self.begin_drain()
        await self.wait_drained(self.policy.drain_timeout_s)
        await self.stop()

    async def _all_over(self) -> None:
        for child in tuple(self._children.values()):
            if child.life is not None:
                await child.life.gone.wait()

    # Who may start

    def _soon(self) -> None:
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._settling = None
        try:
            self._free_places()
            self._free_slots()
            self._start_some()
        except Exception as error:  # noqa: BLE001 - reported; the loop would only log it
            self._tasks.fail("scheduling", error)

    def _free_places(self) -> None:
        for child in [c for c in self._places if c.phase.state is not State.STARTING]:
            self._give_up_place(child)

    def _give_up_place(self, child: Child) -> None:
        self._places.pop(child).cancel()
        self._soon()

    def _free_slots(self) -> None:
        for child in tuple(self._children.values()):
            if not child.holds:
                child.slot = None
                if child.leaving:
                    self._forget(child)

    def _forget(self, child: Child) -> None:
        del self._children[child.name]
        self._pool.remove(child.name)
        self._tasks.spawn(self._launcher.forget(child.name), f"forget {child.name}")
        if child.name in self._returning:
            self._add(self._returning.pop(child.name))

    def _start_some(self) -> None:
        if self._pool.draining:
            return
        held = {c.slot.index for c in self._children.values() if c.slot}
        logins = {c.life.login: c for c in self._children.values() if c.life and not c.clean}
        waiting = [c for c in self._children.values() if c.startable]
        for child in sorted(waiting, key=lambda c: (c.slot is None, c.turn)):
            if len(self._places) >= self.policy.parallel_starts:
                return
            if logins.setdefault(child.profile.fingerprint, child) is not child:
                continue  # another browser has this login
            slot = child.slot or self._free_slot(held)
            if slot is None:
                return
            held.add(slot.index)
            self._start(child, slot)

    def _free_slot(self, held: set[int]) -> Slot | None:
        limit = self._ports.capacity()
        if self.policy.max_children:
            limit = min(limit, self.policy.max_children)
        index = next((i for i in range(limit) if i not in held), None)
        return None if index is None else self._ports.slot(index)

    def _start(self, child: Child, slot: Slot) -> None:
        loop = asyncio.get_running_loop()
        self._places[child] = loop.call_later(self.policy.start_place_s, self._give_up_place, child)
        child.start(slot)

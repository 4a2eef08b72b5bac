"""All children: who may start, what the operator asks, how it ends."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from contract.keys import KeyStore
from contract.site_check import CheckOutcome, SiteCheck
from contract.storage_state.summary import NO_LOGIN
from coordinator.errors import ActionRefused, NoPage, UnknownChild
from coordinator.proxy.pool import Backend, Pool
from coordinator.supervision.child import Child, Context
from coordinator.supervision.child_client import ChildClient
from coordinator.supervision.child_run import ChildRun
from coordinator.supervision.events import ChildStatus, FleetEvent, Hooks, PublicStatus
from coordinator.supervision.launcher import Launcher, Profile, RenewedLogin
from coordinator.supervision.lifecycle import Event, Reason, State
from coordinator.supervision.memory import watch_memory
from coordinator.supervision.policy import Policy
from coordinator.supervision.ports import PortPlan
from coordinator.supervision.suspects import Suspects
from coordinator.supervision.tasks import Tasks

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
        needs_claims: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rand: Callable[[], float] = random.random,
    ) -> None:
        """With `needs_claims` no login runs before `grant` has been called for it."""
        self.policy = policy or Policy()
        self._launcher, self._pool, self._ports = launcher, pool, ports
        self._client = client or ChildClient()
        self._tasks = Tasks()
        self._children: dict[str, Child] = {}
        self._returning: dict[str, Profile] = {}
        """New profiles whose names belong to children that are still on their way out."""
        self._permits: dict[Child, asyncio.TimerHandle] = {}
        """Children with a start permit, each with the timer that takes it away."""
        self._suspects = Suspects(self.policy.suspects_alone, self.policy.suspect_trial_s, self._schedule_soon)
        self._scheduled: asyncio.Handle | None = None
        self._context = Context(
            launcher,
            pool,
            self._client,
            self.policy,
            self._tasks,
            Hooks(hooks),
            clock,
            wall,
            rand,
            self._schedule_soon,
            needs_claims,
        )

    # What it shows

    @property
    def failed(self) -> asyncio.Future[None]:
        """Fails with SupervisorFailed if a task that keeps the fleet alive breaks; else never done."""
        return self._tasks.failed

    def fail(self, what: str, error: BaseException) -> None:
        """Report that something else which keeps the fleet alive broke."""
        self._tasks.fail(what, error)

    @property
    def ready(self) -> bool:
        """Whether at least one child is READY and nothing drains the whole."""
        return not self._pool.draining and any(c.phase.state is State.READY for c in self._children.values())

    def public_snapshot(self) -> tuple[PublicStatus, ...]:
        """Return all children as they are now and anybody may see them, in a stable order."""
        return tuple(child.public_status() for child in self._children.values())

    def snapshot(self) -> tuple[ChildStatus, ...]:
        """Return all children as they are now, in a stable order."""
        return tuple(child.status() for child in self._children.values())

    def child(self, name: str) -> Child:
        """Return the child of that name. Raises UnknownChild."""
        try:
            return self._children[name]
        except KeyError:
            raise UnknownChild(name) from None

    def claimants(self) -> dict[str, Child]:
        """Return all children by name, those on their way out too: to be granted claims, and to lose them."""
        return dict(self._children)

    # Profiles

    async def start(self, profiles: Iterable[Profile], keys: KeyStore) -> None:
        """Begin to supervise; return at once, children become READY in their own time.

        Raises TabfleetError if children cannot be started here at all, and then has started none.
        """
        self._launcher.open()
        self.use_keys(keys)
        await self.reconcile(profiles)
        if self.policy.memory_limit_bytes:
            watch = watch_memory(lambda: tuple(self._children.values()), self.policy)
            self._tasks.spawn(watch, "memory watch")
        if self.policy.expiry_warning_days:
            self._tasks.spawn(self._watch_logins(), "login watch")

    async def _watch_logins(self) -> None:
        while True:
            await asyncio.sleep(self.policy.expiry_check_s)
            for child in tuple(self._children.values()):
                child.look_at_login()

    def use_keys(self, keys: KeyStore) -> None:
        """Have children accept these API keys from now on, those that run too. Raises LaunchError."""
        self._launcher.use_keys(keys)

    def use_site(self, site: str, file: str, text: str) -> None:
        """Have children that start from now on use this site file. Raises LaunchError."""
        self._launcher.use_site(site, file, text)

    def forget_site(self, site: str) -> None:
        """Have children that start from now on use the site's own file: no profile has that site any more."""
        self._launcher.forget_site(site)

    async def reconcile(self, profiles: Iterable[Profile]) -> Reconciled:
        """Make these the profiles: start new ones, replace changed ones, drain those that are gone.

        A changed child is replaced after its running answer (or `drain_timeout_s`); other models and another weight
        are used at once, for the browser is the same. Does not wait for any of it. Raises ActionRefused while draining.
        """
        self._refuse_if_draining()
        wanted = {profile.name: profile for profile in profiles}
        staying = {name: child for name, child in self._children.items() if not child.profile_gone}
        added = tuple(name for name in wanted if name not in staying)
        changed = tuple(name for name, child in staying.items() if name in wanted and child.differs(wanted[name]))
        removed = tuple(name for name in staying if name not in wanted)
        self._returning.clear()
        for name in added:
            if name in self._children:
                self._returning[name] = wanted[name]
            else:
                self._children[name] = Child(wanted[name], self._context)
        for name, child in staying.items():
            if name in changed:
                child.change_profile(wanted[name])
            elif name in wanted:
                child.change_routing(wanted[name])
        for name in removed:
            self._children[name].profile_gone = True
            self._children[name].fire(Event.PROFILE_GONE, Reason.PROFILE_GONE)
        self._schedule_soon()
        return Reconciled(added, changed, removed)

    # The operator's actions

    def restart(self, name: str) -> None:
        """Replace the process after its running answer; start one that rests, failed or waits, now.

        Raises UnknownChild, ActionRefused.
        """
        child = self._for_action(name)
        if child.phase.state is State.BACKOFF:
            child.skip_backoff()
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

    def check_action(self, name: str) -> None:
        """Raise what an action on this child would: UnknownChild, ActionRefused."""
        self._for_action(name)

    def renew(self, name: str, state: Mapping[str, Any]) -> bool:
        """Have a child go on with this storage_state of its login; return whether it is restarted for that now.

        One that is on its way out, or stands by, takes it at its next start. A new version of the profile takes its
        place, as it does with every session that a child has saved. Raises UnknownChild, ActionRefused.
        """
        child = self._for_action(name)
        child.renewed = RenewedLogin(child.profile.sha256, state)
        try:
            self.restart(name)
        except ActionRefused:
            return False
        return True

    async def screenshot(self, name: str) -> bytes:
        """Return a PNG of what a child's page shows now. Raises UnknownChild, NoPage, PageSilent, PageFailed."""
        child = self.child(name)
        if child.run is None or not child.run.running:
            raise NoPage(f"Child {name!r} is {child.phase}; it has no page now.")
        return await child.run.screenshot()

    # Checks of the page

    def checkable(self, among: Collection[str] | None = None) -> list[str]:
        """Return the names of the children, those of one site or all, on whose page a site file may be checked now.

        They are READY and idle. Where none is READY, those whose page is not what the site file says: it is for them
        that somebody needs to know why.
        """
        of_site = [child for child in self._children.values() if among is None or child.name in among]
        running = [child for child in of_site if child.run is not None and child.run.running]
        ready = [child for child in running if child.phase.state is State.READY]
        broken = [
            child
            for child in running
            if child.phase.state in (State.STARTING, State.UNHEALTHY) and child.reason is Reason.PAGE_BROKEN
        ]
        idle = [child.name for child in ready or broken if child.run and not child.run.backend.in_flight]
        return [] if self._pool.draining else idle

    async def check_site(self, name: str, file: str, text: str) -> SiteCheck:
        """Check a site file of this name and text on a child's page; whatever goes wrong is an outcome."""
        child = self._children.get(name)
        if child is None or child.run is None or not child.run.running:
            return SiteCheck(CheckOutcome.GIVEN_UP, "the child has no page now")
        return await self._client.check(child.run.backend.url, child.run.spec.control_token, file, text)

    def _for_action(self, name: str) -> Child:
        self._refuse_if_draining()
        child = self.child(name)
        if child.profile_gone:
            raise ActionRefused(f"Child {name!r} is leaving: its profile is gone.")
        if not child.claimed:
            where = f"cell {child.holder!r} has" if child.holder else "no cell has now"
            raise ActionRefused(f"Child {name!r} does not run here: {where} the claim of its login. Ask there.")
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
        run = self._run_of(backend)
        if run is None or await run.cancel(request_id, exit_notice_s=self.policy.exit_notice_s):
            return True
        if backend.name in self._children:
            self._children[backend.name].cancel_failed(run)
        return False

    def was_submitted(self, backend: Backend, request_id: str) -> bool | None:
        """Return whether the prompt may have reached the page; None if that cannot be told.

        Final only if the child is dead or has confirmed the cancel of this request.
        """
        run = self._run_of(backend)
        ids = run.submitted() if run else None
        return None if ids is None else request_id in ids

    async def may_retry(self, backend: Backend, request_id: str) -> bool:
        """Return whether a request whose connection broke without a head may safely go to another child.

        True only if this child is dead, or confirms the cancel, and the id is not marked as submitted.
        """
        run = self._run_of(backend)
        if run is None:
            return False
        # A broken connection may be ahead of the news of the exit; only a child that goes on living is asked.
        if not await run.ends_within(self.policy.exit_notice_s) and not await self.cancel(backend, request_id):
            return False
        return self.was_submitted(backend, request_id) is False

    def _run_of(self, backend: Backend) -> ChildRun | None:
        child = self._children.get(backend.name)
        return next((run for run in child.runs if run.backend is backend), None) if child else None

    # The end

    def begin_drain(self) -> None:
        """Refuse new requests, stop idle children, let running answers finish. At once; `/ready` is 503."""
        self._pool.begin_drain()
        self._launcher.end_spares()
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
        self._suspects.close()
        for child in tuple(self._children.values()):
            child.fire(Event.DRAIN_DEADLINE)

        async def all_gone() -> None:
            for child in tuple(self._children.values()):
                if child.run is not None:
                    await child.run.gone.wait()

        limit_s = self.policy.term_grace_s + self.policy.reap_timeout_s
        _, late = await asyncio.wait({self._tasks.spawn(all_gone(), "stop")}, timeout=limit_s)
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

    # Who may start

    def _schedule_soon(self) -> None:
        # Not at once: this is called in the midst of a child's transition.
        if self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self._schedule)

    def _schedule(self) -> None:
        """Take back start permits and slots that are not needed any more, and give them to those who wait."""
        self._scheduled = None
        try:
            for child in [c for c in self._permits if c.phase.state is not State.STARTING]:
                self._take_permit(child)
            for child in tuple(self._children.values()):
                if not child.needs_slot:
                    child.slot = None
                    if child.profile_gone:
                        self._forget(child)
            if not self._pool.draining:
                self._start_waiting()
                self._launcher.allow_spares(allowed=not self._permits)
        except Exception as error:  # noqa: BLE001 - reported; the loop would only log it
            self._tasks.fail("scheduling", error)

    def _take_permit(self, child: Child) -> None:
        self._permits.pop(child).cancel()
        self._schedule_soon()

    def _forget(self, child: Child) -> None:
        del self._children[child.name]
        self._pool.remove(child.name)
        self._tasks.spawn(self._launcher.forget(child.name), f"forget {child.name}")
        if child.name in self._returning:
            self._children[child.name] = Child(self._returning.pop(child.name), self._context)

    def _start_waiting(self) -> None:
        """Start children while there are slots and permits: who keeps its slot first, then who waited longest."""
        children = self._children.values()
        capacity = self._ports.capacity()
        slots = range(min(capacity, self.policy.max_children or capacity))
        held = {child.slot.index for child in children if child.slot}
        users = {child.login_in_use: child for child in children if child.login_in_use is not None}
        waiting = [child for child in children if child.can_start]
        for child in sorted(waiting, key=lambda child: (child.slot is None, child.waiting_since)):
            if len(self._permits) >= self.policy.parallel_starts:
                return
            company = self._suspects.company(child, waiting)
            if company is None:
                continue
            # One login is never in two browsers: the site might end both sessions.
            login = child.profile.fingerprint
            if login != NO_LOGIN and users.setdefault(login, child) is not child:
                continue
            slot = child.slot
            if slot is None:
                free = next((index for index in slots if index not in held), None)
                if free is None:
                    return
                held.add(free)
                slot = self._ports.slot(free)
            loop = asyncio.get_running_loop()
            self._permits[child] = loop.call_later(self.policy.start_permit_s, self._take_permit, child)
            child.start(slot, company)
            waiting.remove(child)
            if child.run is not None:
                self._suspects.started(child, company, child.run)

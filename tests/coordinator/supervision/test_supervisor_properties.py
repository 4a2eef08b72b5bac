"""Supervision under any order of deaths, probes, reloads and orders, without processes and without time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contract.child_api import Readiness, UnreadyReason
from contract.keys import KeyStore
from coordinator.errors import ActionRefused, LaunchError, UnknownChild
from coordinator.fleet_file.login import PLAIN, Login
from coordinator.proxy.pool import Lease, Pool
from coordinator.supervision.child import Child
from coordinator.supervision.child_client import ChildClient
from coordinator.supervision.events import ChildMoved, FleetEvent
from coordinator.supervision.launcher import ChildSpec, SpareBrowsers
from coordinator.supervision.lifecycle import LIVE, Event, Reason, State, advance
from coordinator.supervision.policy import Policy
from coordinator.supervision.ports import PortPlan
from coordinator.supervision.ready_probe import ProbeResult, ReadyProbe
from coordinator.supervision.supervisor import Supervisor
from tests.support.manual_loop import ManualLoop
from tests.support.size import size

NAMES = ("a", "b", "c", "d")
LOGINS = ("ada", "grace", "alan", "edsger")
POLICY = Policy(
    max_children=2,
    parallel_starts=1,
    start_permit_s=1e6,
    start_timeout_s=2.0,
    start_probe_interval_s=0.1,
    probe_interval_s=0.2,
    unhealthy_timeout_s=1.0,
    backoff_max_s=1.0,
    crash_loop_after=3,
    rest_default_s=1.0,
    drain_timeout_s=1.0,
    term_grace_s=0.5,
)

EXIT_CODES = (0, 1, 2, 69, 70, 71, 73, 74, -9, -11)
HEALTH = (
    ProbeResult.of(Readiness(None, models=("m",))),
    ProbeResult.of(Readiness(None, busy=True, models=("m", "n"))),
    ProbeResult.of(Readiness(UnreadyReason.STARTING)),
    ProbeResult.of(Readiness(UnreadyReason.PAGE_BROKEN)),
    ProbeResult.of(Readiness(UnreadyReason.SITE_UNREACHABLE)),
    ProbeResult.of(Readiness(UnreadyReason.LOGIN_EXPIRED)),
    ProbeResult.of(Readiness(UnreadyReason.QUOTA, rest_s=0.5)),
    ProbeResult(Reason.PORT_TAKEN),
    ProbeResult(Reason.PROBE_FAILED),
)


@dataclass(frozen=True)
class TestProfile:
    __test__ = False
    name: str
    fingerprint: str
    sha256: str
    login: Login = PLAIN

    @property
    def path(self) -> Path:
        return Path(f"login of {self.fingerprint}.json")


@dataclass(eq=False)
class Process:
    """A child as the supervisor's launcher would see it."""

    spec: ChildSpec
    ignores_term: bool
    exit: asyncio.Future[int]
    cleaned: asyncio.Event = field(default_factory=asyncio.Event)
    health: ProbeResult = HEALTH[0]
    pid: int = 1
    terminated: bool = False

    @property
    def url(self) -> str:
        return self.spec.instance_id

    @property
    def running(self) -> bool:
        return not self.exit.done()

    @property
    def unclean(self) -> bool:
        return self.running or not self.cleaned.is_set()

    async def wait(self) -> int:
        return await self.exit

    def end(self, exit_code: int) -> None:
        if not self.exit.done():
            self.exit.set_result(exit_code)

    def terminate(self) -> None:
        self.terminated = True
        if not self.ignores_term:
            self.end(0)

    def kill(self) -> None:
        self.end(-9)

    def fence(self) -> None:
        self.end(-9)

    def submitted(self) -> frozenset[str]:
        return frozenset()

    def has_folder(self) -> bool:
        return True

    def last_lines(self) -> tuple[str, ...]:
        return ("bye",)

    def retire_browser(self) -> None:
        """Nobody shares it."""

    def memory_bytes(self) -> int:
        return 0

    async def clean_up(self) -> int:
        await self.cleaned.wait()
        return 0


class TestLauncher:
    __test__ = False

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.spawning: list[str] = []
        self.broken = self.slow = self.ignores_term = self.slow_cleaning = self.closed = False
        self.spares_ended = self.spares_allowed = False
        self.occupied: set[str] = set()  # by a request whose cancel was not confirmed, as far as anybody can tell
        self.health = HEALTH[0]

    def open(self) -> None:
        """Nothing is needed here."""

    def use_keys(self, keys: KeyStore) -> None:
        """No process here looks at them."""

    def forget_site(self, site: str) -> None:
        pass

    def use_site(self, site: str, file: str, text: str) -> None:
        """No process here looks at it."""

    async def start(self, spec: ChildSpec) -> Process:
        assert not [p for p in self.processes if p.unclean and spec.name == p.spec.name]
        self.spawning.append(spec.name)
        try:
            if self.slow:
                await asyncio.sleep(0.8)  # longer than the grace before a KILL
            if self.broken:
                raise LaunchError("no more processes")
        finally:
            self.spawning.remove(spec.name)
        exit_future = asyncio.get_running_loop().create_future()
        process = Process(spec, self.ignores_term, exit_future, health=self.health)
        if not self.slow_cleaning:
            process.cleaned.set()
        self.processes.append(process)
        return process

    def allow_spares(self, *, allowed: bool) -> None:
        assert not (allowed and self.spares_ended)
        self.spares_allowed = allowed

    def end_spares(self) -> None:
        self.spares_ended, self.spares_allowed = True, False

    def spares(self) -> SpareBrowsers | None:
        return None

    async def forget(self, name: str) -> None:
        assert not [p for p in self.processes if p.spec.name == name and p.running]

    async def close(self) -> None:
        self.closed = True


class TestClient(ChildClient):
    __test__ = False

    def __init__(self, launcher: TestLauncher) -> None:
        super().__init__()
        self._launcher = launcher

    def ready_probe(self, url: str, instance_id: str) -> ReadyProbe:
        return TestProbe(self._launcher, url, instance_id)


class TestProbe(ReadyProbe):
    __test__ = False

    def __init__(self, launcher: TestLauncher, url: str, instance_id: str) -> None:
        super().__init__(url, instance_id, timeout_s=1.0)
        self._launcher = launcher
        self._process = next(p for p in launcher.processes if p.url == url)
        assert self._process.spec.instance_id == instance_id

    async def probe(self) -> ProbeResult:
        process = self._process
        if not process.running:
            return ProbeResult(Reason.PROBE_FAILED)
        if process.health.readiness is not None and not process.health.readiness.busy:
            self._launcher.occupied.discard(process.spec.instance_id)
        return process.health


class SupervisorMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = ManualLoop()
        self.launcher = TestLauncher()
        self.events: list[FleetEvent] = []
        self.checked = 0
        self.generations: dict[Child, int] = {}
        self.profiles: dict[str, TestProfile] = {}
        self.leases: list[Lease] = []
        self.pool, self.supervisor = self.loop.call(self.make)

    def make(self) -> tuple[Pool, Supervisor]:
        pool = Pool(max_queue=100)
        supervisor = Supervisor(
            launcher=self.launcher,
            pool=pool,
            ports=PortPlan(1, 1000, 2000),
            policy=POLICY,
            client=TestClient(self.launcher),
            hooks=[self.events.append],
            clock=self.loop.time,
            wall=self.loop.time,
            rand=lambda: 0.5,
        )
        return pool, supervisor

    @property
    def children(self) -> list[Child]:
        return list(self.supervisor._children.values())

    def running(self, name: str) -> list[Process]:
        return [p for p in self.launcher.processes if p.spec.name == name and p.running]

    @initialize(profiles=st.permutations(NAMES))
    def begin(self, profiles: list[str]) -> None:
        self.profiles = {
            name: TestProfile(name, login, f"1{login}") for name, login in zip(profiles, LOGINS, strict=False)
        }
        self.loop.run_until_complete(self.supervisor.start(self.profiles.values(), KeyStore()))
        self.loop.turn()

    # What happens

    @rule(seconds=st.sampled_from((0.05, 0.3, 1.1, 3.0)))
    def time_passes(self, seconds: float) -> None:
        self.loop.advance(seconds)

    @precondition(lambda self: any(p.running for p in self.launcher.processes))
    @rule(data=st.data(), exit_code=st.sampled_from(EXIT_CODES))
    def a_child_ends(self, data: st.DataObject, exit_code: int) -> None:
        process = data.draw(st.sampled_from([p for p in self.launcher.processes if p.running]))
        backend = self.pool.get(process.spec.name)
        self.loop.call(process.end, exit_code)
        self.loop.turn()
        # What ended is out of routing at once, long before it is cleaned up.
        assert backend is None or not backend.ready

    @precondition(lambda self: any(not p.running and not p.cleaned.is_set() for p in self.launcher.processes))
    @rule(data=st.data())
    def an_ended_child_is_cleaned_up(self, data: st.DataObject) -> None:
        ended = [p for p in self.launcher.processes if not p.running and not p.cleaned.is_set()]
        self.loop.call(data.draw(st.sampled_from(ended)).cleaned.set)
        self.loop.turn()

    @precondition(lambda self: any(p.running for p in self.launcher.processes))
    @rule(data=st.data(), health=st.sampled_from(HEALTH))
    def health_changes(self, data: st.DataObject, health: ProbeResult) -> None:
        data.draw(st.sampled_from([p for p in self.launcher.processes if p.running])).health = health
        self.loop.advance(0.2)

    @rule(trouble=st.sets(st.sampled_from(("broken", "slow", "ignores_term", "slow_cleaning")), max_size=2))
    def starts_fail_or_lag(self, trouble: set[str]) -> None:
        for name in ("broken", "slow", "ignores_term", "slow_cleaning"):
            setattr(self.launcher, name, name in trouble)

    @rule(health=st.sampled_from(HEALTH))
    def new_children_have_this_health(self, health: ProbeResult) -> None:
        self.launcher.health = health

    @rule()
    def everything_recovers(self) -> None:
        self.starts_fail_or_lag(set())
        self.launcher.health = HEALTH[0]
        for process in self.launcher.processes:
            process.health = HEALTH[0]
            self.loop.call(process.cleaned.set)
        self.loop.advance(4.0)

    @precondition(lambda self: self.children)
    @rule(data=st.data())
    def a_child_grows_too_large(self, data: st.DataObject) -> None:
        child = data.draw(st.sampled_from(self.children))
        self.loop.call(child.fire, Event.MEMORY_LIMIT, Reason.MEMORY_LIMIT, generation=child.generation)
        self.loop.turn()

    @precondition(lambda self: any(p.running for p in self.launcher.processes))
    @rule(data=st.data(), healths=st.lists(st.sampled_from(HEALTH), max_size=4))
    def a_cancel_is_not_confirmed(self, data: st.DataObject, healths: list[ProbeResult]) -> None:
        process = data.draw(st.sampled_from([p for p in self.launcher.processes if p.running]))
        child = self.supervisor.child(process.spec.name)
        assert child.run is not None
        self.launcher.occupied.add(process.spec.instance_id)
        self.loop.call(child.cancel_failed, child.run)
        for health in healths:
            process.health = health
            self.loop.advance(0.2)
            self.a_page_that_may_be_occupied_takes_no_request()

    @rule(event=st.sampled_from(list(Event)), data=st.data())
    def events_of_another_start_change_nothing(self, event: Event, data: st.DataObject) -> None:
        if self.children:
            child = data.draw(st.sampled_from(self.children))
            before = (child.phase, child.reason, len(self.events))
            assert not self.loop.call(child.fire, event, Reason.CRASHED, generation=child.generation + 1)
            assert not self.loop.call(child.fire, event, Reason.CRASHED, generation=child.generation - 1)
            assert (child.phase, child.reason, len(self.events)) == before

    # What is asked for

    @rule(name=st.sampled_from(NAMES), action=st.sampled_from(("restart", "reset", "drain")))
    def the_operator_acts(self, name: str, action: str) -> None:
        try:
            self.loop.call(getattr(self.supervisor, action), name)
        except (ActionRefused, UnknownChild):
            return
        self.loop.turn()

    @rule(name=st.sampled_from(NAMES), version=st.sampled_from("12"), login=st.sampled_from(LOGINS))
    def a_profile_comes_or_changes(self, name: str, version: str, login: str) -> None:
        # One login in two files is refused before it comes here; a file of another login has another digest.
        others = {n: p for n, p in self.profiles.items() if p.fingerprint != login}
        self.reconcile({**others, name: TestProfile(name, login, version + login)})

    @rule(name=st.sampled_from(NAMES))
    def a_profile_goes(self, name: str) -> None:
        self.reconcile({n: profile for n, profile in self.profiles.items() if n != name})

    def reconcile(self, profiles: dict[str, TestProfile]) -> None:
        self.profiles = profiles
        self.loop.run_until_complete(self.supervisor.reconcile(profiles.values()))
        self.loop.turn()

    @rule(model=st.sampled_from(("m", "n")))
    def requests_begin(self, model: str) -> None:
        while lease := self.pool.try_acquire(model):
            child = self.supervisor.child(lease.backend.name)
            assert child.phase.state is State.READY
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def a_request_ends(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        self.leases.remove(lease)
        self.loop.call(lease.release)
        self.loop.turn()

    # What always holds

    @invariant()
    def exactly_one_process_in_live_states_and_none_in_others(self) -> None:
        self.loop.turn()
        for child in self.children:
            processes = len(self.running(child.name)) + self.launcher.spawning.count(child.name)
            assert processes == (1 if child.phase.state in LIVE else 0), child.status()

    @invariant()
    def every_process_belongs_to_a_child(self) -> None:
        known = {child.name for child in self.children}
        assert all(p.spec.name in known for p in self.launcher.processes if p.running)

    @invariant()
    def a_stopping_process_has_been_terminated(self) -> None:
        stopping = [child.name for child in self.children if child.phase.state is State.STOPPING]
        assert all(process.terminated for name in stopping for process in self.running(name))

    @invariant()
    def slots_are_held_by_one_child_each(self) -> None:
        held = [child.slot.index for child in self.children if child.slot]
        assert len(held) == len(set(held)) <= POLICY.max_children
        for child in self.children:
            assert (child.slot is not None) == child.needs_slot

    @invariant()
    def a_login_is_in_one_browser_at_most(self) -> None:
        logins = [p.spec.profile_path for p in self.launcher.processes if p.unclean]
        assert len(set(logins)) == len(logins)

    @invariant()
    def starts_are_bounded(self) -> None:
        assert sum(child.phase.state is State.STARTING for child in self.children) <= POLICY.parallel_starts

    @invariant()
    def spare_browsers_are_started_only_while_no_child_is(self) -> None:
        starting = any(child.phase.state is State.STARTING for child in self.children)
        assert not (self.launcher.spares_allowed and starting)

    @invariant()
    def the_pool_offers_exactly_the_ready(self) -> None:
        ready = {backend.name for backend in self.pool if backend.ready}
        assert ready == {child.name for child in self.children if child.phase.state is State.READY}

    @invariant()
    def a_page_that_may_be_occupied_takes_no_request(self) -> None:
        for child in self.children:
            if child.phase.state is State.READY:
                assert child.run is not None
                assert child.run.spec.instance_id not in self.launcher.occupied

    @invariant()
    def every_move_is_in_the_table(self) -> None:
        moves = [event for event in self.events[self.checked :] if isinstance(event, ChildMoved)]
        self.checked = len(self.events)
        assert all(advance(move.old, move.cause) == move.new for move in moves)

    @invariant()
    def generations_only_grow(self) -> None:
        for child in self.children:
            runs = [run.spec.generation for run in child.runs]
            assert runs == sorted(runs, reverse=True)
            assert len(set(runs)) == len(runs)
            assert child.generation == max(runs, default=0) >= self.generations.get(child, 0)
            self.generations[child] = child.generation

    @invariant()
    def supervision_has_not_failed(self) -> None:
        failed = self.supervisor.failed
        assert not failed.done(), failed.exception()

    def teardown(self) -> None:
        stopping = self.loop.create_task(self.supervisor.stop())
        for _ in range(5):
            self.loop.advance(0.5)
            for process in self.launcher.processes:
                if not process.running:
                    self.loop.call(process.cleaned.set)
        self.loop.turn()
        assert stopping.done()
        stopping.result()
        assert not any(process.running for process in self.launcher.processes)
        assert {child.phase.state for child in self.children} <= {State.STOPPED}
        assert self.launcher.closed
        assert not self.supervisor.failed.done()
        self.loop.close()


SupervisorMachine.TestCase.settings = settings(max_examples=size(60, 200), stateful_step_count=60, deadline=None)
TestSupervisor = SupervisorMachine.TestCase

"""Which child starts in which host: any order of starts, ends and faults, over real sockets, without processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contract.host_orders import HOST_FLAG, End, Ended, Full, Start, Up, receive_order, send
from contract.surroundings import Surroundings
from coordinator.errors import LaunchError
from coordinator.fleet_file.login import Login
from coordinator.local import processes
from coordinator.local.launcher import LocalLauncher
from coordinator.local.output import Output
from coordinator.local.run_folder import RunFolder
from coordinator.supervision.launcher import ChildProcess, ChildSpec, Company
from coordinator.supervision.lifecycle import STEADY_AFTER_S
from coordinator.supervision.ports import StreamPorts
from tests.support.manual_loop import ManualLoop
from tests.support.size import size

LOGINS_PER_BROWSER = 3
SPARES = 2
SLOTS = 7
FIRST_PORT = 5000
COMPANY = {"alone": Company.NONE, "suspect": Company.SUSPECTS}


@dataclass(eq=False)
class FakeProcess:
    """A process as the launcher sees it: a host if it has a socket."""

    pid: int
    stream_port: int
    orders: socket.socket | None
    exit: asyncio.Future[int]
    running: set[str] = field(default_factory=set)
    kills: bool = True  # it does as it is told with "kill"
    ends: bool = True  # it ends when the coordinator closes its side

    @property
    def is_host(self) -> bool:
        return self.orders is not None

    @property
    def is_deaf(self) -> bool:
        return self.orders is not None and self.orders.fileno() < 0

    @property
    def returncode(self) -> int | None:
        return self.exit.result() if self.exit.done() else None

    async def wait(self) -> int:
        return await self.exit

    def say(self, news: Up | Ended | Full) -> None:
        assert self.orders is not None
        with contextlib.suppress(BrokenPipeError):  # the coordinator has closed its side, and this host lingers
            send(self.orders, news)

    def die(self, code: int) -> None:
        if not self.exit.done():
            self.running.clear()
            if self.orders is not None:
                self.orders.close()
            self.exit.set_result(code)


class WithoutProcesses(LocalLauncher):
    """The launcher, but for what it executes."""

    executed: list[FakeProcess]
    slow = broken = never_up = False

    async def _execute(  # type: ignore[override]
        self,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        folder: RunFolder,
        output: Output,
        *,
        takes_site_url: bool,
        inherited: Sequence[int] = (),
    ) -> FakeProcess:
        if self.slow:
            await asyncio.sleep(0.5)
        if self.broken:
            raise OSError(11, "no more processes")
        port = int(arguments[arguments.index("--stream-port") + 1])
        orders = None
        if HOST_FLAG in arguments:
            orders = socket.socket(fileno=os.dup(inherited[0]))
            orders.setblocking(False)
        process = FakeProcess(len(self.executed) + 1, port, orders, asyncio.get_running_loop().create_future())
        self.executed.append(process)
        if process.is_host and not self.never_up:
            process.say(Up())
        return process


@dataclass(eq=False)
class Run:
    """One start, as `ChildRun` and `Supervisor` go about it: its slot is free when nothing of it is left."""

    spec: ChildSpec
    at: float
    """When it was asked for; of one that shares with anybody, when it had its host."""
    process: ChildProcess | None = None
    task: asyncio.Task[None] | None = None
    failed: bool = False
    exit_code: int | None = None
    gone: bool = False


def send_to_fake(process: FakeProcess, number: signal.Signals) -> None:
    if number == signal.SIGKILL:
        process.die(-number)


def tell_end(host: FakeProcess, instance_id: str, code: int) -> None:
    host.running.discard(instance_id)
    host.say(Ended(ended=instance_id, code=code))


def obey(loop: ManualLoop, host: FakeProcess) -> bool:
    """Do what the host's next order says; return whether it had one."""
    if host.orders is None or host.is_deaf:
        return False
    try:
        received = receive_order(host.orders)
    except BlockingIOError:
        return False
    if received is None:
        if host.ends:
            loop.call(host.die, 0)
        return host.ends
    order, descriptor = received
    match order:
        case Start():
            assert descriptor is not None
            os.close(descriptor)
            host.running.add(order.start.instance_id)
            assert order.start.run_dir.is_dir()
        case End() if host.kills and order.end in host.running:
            tell_end(host, order.end, 0)
    return True


class PlacementMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = ManualLoop()
        self.patch = mock.patch.object(processes, "send_signal", send_to_fake)
        self.patch.start()
        self.folder = Path(tempfile.mkdtemp())
        self.launcher = WithoutProcesses(
            self.folder,
            default_site="demo",
            logins_per_browser=LOGINS_PER_BROWSER,
            spare_browsers=SPARES,
            stream_ports=StreamPorts(FIRST_PORT),
        )
        self.launcher.executed = []
        self.loop.call(self.launcher.open)
        assert self.launcher._hosts is not None
        self.launcher._hosts.spares._rand = lambda: 0.5
        self.runs: dict[int, Run] = {}  # by slots
        self.started = 0

    # What happens

    @precondition(lambda self: len(self.runs) < SLOTS)
    @rule(
        kind=st.sampled_from(["plain", "plain", "plain", "other site", "alone", "suspect", "proxy"]),
        count=st.integers(1, SLOTS),
    )
    def start(self, kind: str, count: int) -> None:
        async def begin() -> None:
            for slot in [slot for slot in range(SLOTS) if slot not in self.runs][:count]:
                self.started += 1
                login = {
                    "other site": Login(site="other"),
                    "proxy": Login(surroundings=Surroundings(proxy="http://127.0.0.1:9")),
                }.get(kind, Login())
                spec = ChildSpec(
                    name=f"login-{self.started}",
                    profile_path=Path("profile.json"),
                    api_port=4000 + slot,
                    stream_port=9999,  # of the slot, which a shared browser does not take
                    generation=1,
                    instance_id=f"start-{self.started}",
                    control_token="token",
                    login=login,
                    company=COMPANY.get(kind, Company.ANY),
                )
                run = self.runs[slot] = Run(spec, self.loop.now)
                run.task = asyncio.create_task(self.live(slot, run))

        self.loop.run_until_complete(begin())

    async def live(self, slot: int, run: Run) -> None:
        try:
            run.process = await self.launcher.start(run.spec)
        except LaunchError:
            run.failed = True
        else:
            if run.spec.company is Company.ANY:
                run.at = self.loop.now
            run.exit_code = await run.process.wait()
            await run.process.clean_up()
        run.gone = True
        del self.runs[slot]

    def pick(self, number: int, *, hosts: bool) -> FakeProcess | None:
        alive = [p for p in self.launcher.executed if p.returncode is None and p.is_host == hosts and not p.is_deaf]
        return alive[number % len(alive)] if alive else None

    @rule(number=st.integers(0, 50), code=st.sampled_from([0, 70, 73]))
    def a_child_ends_by_itself(self, number: int, code: int) -> None:
        host = self.pick(number, hosts=True)
        if host is not None and host.running:
            tell_end(host, sorted(host.running)[number % len(host.running)], code)

    @rule(number=st.integers(0, 50), hosts=st.booleans())
    def a_process_dies(self, number: int, hosts: bool) -> None:
        process = self.pick(number, hosts=hosts)
        if process is not None:
            self.loop.call(process.die, -signal.SIGSEGV)

    @rule(number=st.integers(0, 50))
    def a_host_is_full(self, number: int) -> None:
        host = self.pick(number, hosts=True)
        if host is not None:
            host.say(Full())

    @rule(number=st.integers(0, 50), kills=st.booleans(), ends=st.booleans())
    def a_host_is_disobedient(self, number: int, kills: bool, ends: bool) -> None:
        host = self.pick(number, hosts=True)
        if host is not None:
            host.kills, host.ends = kills, ends

    @rule(number=st.integers(0, 50))
    def a_host_says_nonsense(self, number: int) -> None:
        host = self.pick(number, hosts=True)
        if host is not None and host.orders is not None:
            with contextlib.suppress(BrokenPipeError):
                host.orders.send(b"[]")

    @rule(number=st.integers(0, 50))
    def a_host_closes_its_side_and_lives_on(self, number: int) -> None:
        host = self.pick(number, hosts=True)
        if host is not None and host.orders is not None:
            host.orders.close()

    @rule(number=st.integers(0, 50))
    def a_child_is_killed(self, number: int) -> None:
        running = [run for run in self.runs.values() if run.process is not None]
        if running:
            process = running[number % len(running)].process
            assert process is not None
            self.loop.call(process.kill)

    @rule(slow=st.booleans(), broken=st.booleans(), never_up=st.booleans())
    def spawning_is(self, slow: bool, broken: bool, never_up: bool) -> None:
        self.launcher.slow, self.launcher.broken, self.launcher.never_up = slow, broken, never_up

    @rule(allowed=st.booleans())
    def spares_are(self, allowed: bool) -> None:
        self.loop.call(lambda: self.launcher.allow_spares(allowed=allowed))

    @rule(number=st.integers(0, 50))
    def a_hosts_folder_goes(self, number: int) -> None:
        folders = sorted((self.launcher.root.path / "hosts").glob("*"))
        if folders:
            shutil.rmtree(folders[number % len(folders)])

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.5, 4.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.settle()
        self.loop.advance(seconds)

    # What hosts do with their orders

    def settle(self) -> None:
        """Let the launcher and the hosts run until nothing moves."""
        for _ in range(100):
            self.loop.turn()
            if not any(obey(self.loop, process) for process in self.launcher.executed):
                return
        raise AssertionError("the hosts do not come to rest")

    # What always holds

    @invariant()
    def no_host_has_more_children_than_logins_per_browser(self) -> None:
        self.settle()
        for host in self.launcher.executed:
            assert len(host.running) <= LOGINS_PER_BROWSER
            sites = {run.spec.login.site for run in self.runs.values() if run.spec.instance_id in host.running}
            assert len(sites) <= 1

    @invariant()
    def no_two_processes_have_one_stream_port_and_none_a_port_beyond_the_plan(self) -> None:
        ports = [process.stream_port for process in self.launcher.executed if process.returncode is None]
        assert len(ports) == len(set(ports))
        assert set(ports) <= set(range(FIRST_PORT, FIRST_PORT + SLOTS + SPARES))

    @invariant()
    def there_are_no_more_spares_than_wanted(self) -> None:
        idle = [p for p in self.launcher.executed if p.is_host and p.returncode is None and not p.running]
        assert self.launcher._hosts is not None
        assert sum(host.is_spare for host in self.launcher._hosts.all) <= SPARES
        status = self.launcher.spares()
        assert status is not None
        assert status.ready <= len(idle)

    @invariant()
    def a_suspect_and_a_login_with_its_own_proxy_are_alone(self) -> None:
        hosted = {instance for process in self.launcher.executed for instance in process.running}
        for run in self.runs.values():
            if run.spec.company is Company.NONE or run.spec.login.has_own_browser:
                assert run.spec.instance_id not in hosted

    @invariant()
    def a_suspect_shares_with_none_that_has_just_started_and_is_not(self) -> None:
        for process in self.launcher.executed:
            together = [run for run in self.runs.values() if run.spec.instance_id in process.running]
            suspects = [run for run in together if run.spec.company is Company.SUSPECTS]
            others = [run for run in together if run.spec.company is Company.ANY]
            for run in suspects:
                assert all(other.at >= run.at + STEADY_AFTER_S for other in others)

    @invariant()
    def whoever_is_told_to_run_is_known(self) -> None:
        for process in self.launcher.executed:
            for instance in process.running:
                (run,) = [run for run in self.runs.values() if run.spec.instance_id == instance]
                assert run.exit_code is None
                assert run.process is not None
                assert run.process.pid == process.pid

    @invariant()
    def own_pids_are_those_of_the_processes_that_run(self) -> None:
        assert self.launcher.own_pids == {p.pid for p in self.launcher.executed if p.returncode is None}

    def teardown(self) -> None:
        """When all is killed, nothing is left: no host, no spare, no port, no folder."""
        self.launcher.slow = False
        self.loop.call(self.launcher.end_spares)
        self.settle()
        self.loop.advance(1.0)
        for run in tuple(self.runs.values()):
            if run.process is not None:
                self.loop.call(run.process.kill)
        self.settle()
        self.loop.advance(10.0)
        self.settle()
        try:
            assert not self.runs
            assert self.launcher._hosts is not None
            assert self.launcher._hosts.all == ()
            assert self.launcher._stream_ports is not None
            assert self.launcher._stream_ports.take() == FIRST_PORT
            assert not list((self.launcher.root.path / "hosts").glob("*"))
        finally:
            self.loop.run_until_complete(self.launcher.close())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            self.patch.stop()
            shutil.rmtree(self.folder, ignore_errors=True)


TestPlacement = PlacementMachine.TestCase
TestPlacement.settings = settings(max_examples=size(40, 600), stateful_step_count=30, deadline=None)

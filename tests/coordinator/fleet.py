"""A supervisor over real processes that are fake children, with what a test needs to see and to break."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from contract.keys import KeyStore
from contract.processes import ProcessIdentity
from coordinator.fleet_file.login import PLAIN, Login
from coordinator.local.launcher import LocalLauncher
from coordinator.local.run_root import RunRoot
from coordinator.proxy.pool import Pool
from coordinator.supervision.child_client import ChildClient
from coordinator.supervision.events import ChildMoved, ChildStatus, FleetEvent
from coordinator.supervision.launcher import SpareBrowsers
from coordinator.supervision.lifecycle import Event, State
from coordinator.supervision.policy import Policy
from coordinator.supervision.ports import PortPlan, StreamPorts
from coordinator.supervision.supervisor import Supervisor
from tests.support.json_lines import json_lines
from tests.support.ports import free_range
from tests.support.waiting import eventually

FAKE_CHILD = (sys.executable, "-m", "tests.coordinator.fake_child")
ROOM = 20  # ports kept free for each of the two ranges
E = TypeVar("E", bound=FleetEvent)

QUICK = Policy(
    parallel_starts=8,
    start_timeout_s=60.0,
    start_probe_interval_s=0.02,
    probe_interval_s=0.05,
    unhealthy_timeout_s=60.0,
    backoff_base_s=0.05,
    backoff_max_s=0.4,
    drain_timeout_s=30.0,
    term_grace_s=10.0,
    memory_check_s=0.05,
    expiry_check_s=0.05,
)


@dataclass(frozen=True)
class FakeProfile:
    name: str
    path: Path
    sha256: str
    fingerprint: str
    login: Login = PLAIN


@dataclass
class Fleet:
    """The parts, and short ways to look at them."""

    folder: Path
    supervisor: Supervisor
    pool: Pool
    launcher: LocalLauncher
    ports: PortPlan
    events: list[FleetEvent]
    http: aiohttp.ClientSession

    @property
    def run_root(self) -> RunRoot:
        return self.launcher.root

    async def start(self, profiles: Iterable[FakeProfile]) -> None:
        await self.supervisor.start(profiles, KeyStore())

    def status(self, name: str) -> ChildStatus:
        return self.supervisor.child(name).status()

    def is_in(self, name: str, state: State) -> bool:
        return self.status(name).state is state

    async def until(self, name: str, state: State, *, timeout_s: float = 30.0) -> ChildStatus:
        await eventually(lambda: self.is_in(name, state), timeout_s=timeout_s, what=lambda: self.status(name))
        return self.status(name)

    async def until_event(self, kind: type[E], matches: Callable[[E], bool] = lambda _: True) -> E:
        def look() -> E | None:
            return next((e for e in self.events if isinstance(e, kind) and matches(e)), None)

        found = await eventually(look, timeout_s=30.0, what=lambda: self.events[-5:])
        assert found is not None
        return found

    async def until_start(self, name: str, generation: int) -> ChildStatus:
        """Wait until the child is READY in this start or a later one."""

        def look() -> bool:
            status = self.status(name)
            return status.generation >= generation and status.state is State.READY

        await eventually(look, timeout_s=30.0, what=lambda: self.status(name))
        return self.status(name)

    async def behave(self, name: str, **change: Any) -> None:
        """Change a running child; one that dies or hangs of it cannot answer."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=0.5 if change.get("hang") else 30)
            async with self.http.post(f"{self.url(name)}/fake", json=change, timeout=timeout) as response:
                assert response.status == 200, await response.text()

    def url(self, name: str) -> str:
        backend = self.pool.get(name)
        assert backend is not None
        return backend.url

    def plan(self, name: str, **behaviour: Any) -> None:
        """Lay down how that child behaves from its next start on."""
        (self.folder / f"{name}.json").write_text(json.dumps(behaviour))

    def notes(self, name: str, kind: str) -> list[dict[str, Any]]:
        """What the child noted itself: starts, ledger, orphans."""
        return json_lines(self.folder / f"{name}.{kind}")

    def plan_hosts(self, **behaviour: Any) -> None:
        """Lay down how hosts behave that are started from now on."""
        self.plan("hosts", **behaviour)

    @property
    def spares(self) -> SpareBrowsers:
        """What there is of spare browsers."""
        spares = self.launcher.spares()
        assert spares is not None
        return spares

    async def until_spare(self, ready: int = 1) -> None:
        """Wait until so many spares are up."""
        await eventually(lambda: self.spares.ready == ready, what=lambda: self.spares)

    def hosts(self) -> list[dict[str, Any]]:
        """What each host that was started was told, in the order of starts."""
        return self.notes("hosts", "starts")

    def profile(self, name: str, *, version: int = 1, login: str | None = None) -> FakeProfile:
        return make_profile(self.folder, name, version=version, login=login)


def make_profile(folder: Path, name: str, *, version: int = 1, login: str | None = None) -> FakeProfile:
    path = folder / "profiles" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    content = json.dumps({"cookies": [], "origins": [], "version": version})
    path.write_text(content)
    return FakeProfile(name, path, hashlib.sha256(content.encode()).hexdigest(), login or f"login of {name}")


@contextlib.asynccontextmanager
async def prepared_fleet(
    tmp_path: Path,
    hooks: Iterable[Callable[[FleetEvent], None]] = (),
    *,
    default_site: str | None = None,
    logins_per_browser: int = 1,
    needs_claims: bool = False,
    claim_deadline_file: Path | None = None,
    spare_browsers: int = 0,
    site_url: str | None = None,
    **changes: Any,
) -> AsyncIterator[Fleet]:
    """A fleet that has not been started; stopped at the end. `changes` are of the policy.

    With `logins_per_browser` above 1 or spares the children are in hosts, of the site `demo` by default.
    """
    shared = logins_per_browser > 1 or spare_browsers > 0
    events: list[FleetEvent] = []
    base = free_range(2 * ROOM)
    ports = PortPlan(coordinator_port=1, base_api_port=base, base_stream_port=base + ROOM, spares=spare_browsers)
    launcher = LocalLauncher(
        tmp_path,
        environment={"FAKE_CHILD_DIR": str(tmp_path), **({} if site_url is None else {"SITE_URL": site_url})},
        program=FAKE_CHILD,
        default_site=default_site or ("demo" if shared else None),
        logins_per_browser=logins_per_browser,
        spare_browsers=spare_browsers,
        stream_ports=StreamPorts(ports.base_stream_port) if shared else None,
        claim_deadline_file=claim_deadline_file,
    )
    pool = Pool(max_queue=100)
    client = ChildClient(probe_timeout_s=1.0, cancel_timeout_s=5.0, screenshot_timeout_s=0.5)
    alone = {"suspects_alone": logins_per_browser} if logins_per_browser > 1 else {}
    policy = replace(QUICK, **{**alone, **changes})
    supervisor = Supervisor(
        launcher=launcher,
        pool=pool,
        ports=ports,
        policy=policy,
        client=client,
        hooks=[events.append, *hooks],
        needs_claims=needs_claims,
    )
    async with aiohttp.ClientSession() as http:
        fleet = Fleet(tmp_path, supervisor, pool, launcher, ports, events, http)
        try:
            yield fleet
            assert not supervisor.failed.done(), supervisor.failed.exception()
        finally:
            await supervisor.stop()


@contextlib.asynccontextmanager
async def running_fleet(tmp_path: Path, names: Iterable[str] = ("a",), **changes: Any) -> AsyncIterator[Fleet]:
    """A fleet whose children are all READY."""
    async with prepared_fleet(tmp_path, **changes) as fleet:
        wanted = [fleet.profile(name) for name in names]
        await fleet.start(wanted)
        for profile in wanted:
            await fleet.until(profile.name, State.READY)
        yield fleet


def alive(pid: int) -> bool:
    return ProcessIdentity.of(pid) is not None


def causes(fleet: Fleet, name: str) -> list[Event]:
    """Every event that moved that child, in order."""
    return [event.cause for event in fleet.events if isinstance(event, ChildMoved) and event.child == name]

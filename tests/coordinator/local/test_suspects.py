"""Suspects start alone, and not all at once, whatever ends browsers: a real supervisor and launcher.

Without processes and without time. A bad login is one that ends its browser a while after it has started there.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contract.child_api import Readiness
from contract.keys import KeyStore
from coordinator.local import processes
from coordinator.proxy.pool import Pool
from coordinator.supervision.child_client import ChildClient
from coordinator.supervision.events import ChildExited, ChildMoved, FleetEvent
from coordinator.supervision.lifecycle import Reason, State
from coordinator.supervision.policy import Policy
from coordinator.supervision.ports import PortPlan, StreamPorts
from coordinator.supervision.ready_probe import ProbeResult, ReadyProbe
from coordinator.supervision.supervisor import Supervisor
from tests.coordinator.local.test_placement_properties import FakeProcess, WithoutProcesses, obey, send_to_fake
from tests.coordinator.supervision.test_supervisor_properties import TestProfile
from tests.support.manual_loop import ManualLoop
from tests.support.size import size

STEP_S = 0.5


class Ready(ReadyProbe):
    async def probe(self) -> ProbeResult:
        return ProbeResult.of(Readiness(None, models=("m",)))


class AlwaysReady(ChildClient):
    """A child is READY as soon as it is asked."""

    def ready_probe(self, url: str, instance_id: str) -> ReadyProbe:
        return Ready(url, instance_id, timeout_s=1.0)


@dataclass(frozen=True)
class Story:
    """So many logins, so many to a browser; which are bad, and how long it takes; when all browsers are ended."""

    logins: int
    per_browser: int
    bad: frozenset[int] = frozenset()
    fuse_s: float = 2.0
    deaths_at: tuple[float, ...] = ()
    limited: bool = True
    """Whether only as many suspects may be alone as the product lets be, or all."""

    @property
    def planned(self) -> int:
        return math.ceil(self.logins / self.per_browser)

    @property
    def ends_at(self) -> float:
        """By then all is decided: every bad login rests, and every other one serves."""
        return max(self.deaths_at, default=0.0) + 60.0 + (9 * self.fuse_s + 120.0 if self.bad else 0.0)


@dataclass(frozen=True)
class Outcome:
    """What came of it. `ends` counts the ends of each login's runs, `longest_away_s` how long one did not serve."""

    most_browsers: int
    rested: frozenset[int]
    serving: frozenset[int]
    ends: dict[int, int]
    longest_away_s: dict[int, float]


class Machine:
    """The fleet of a story."""

    def __init__(self, story: Story, folder: Path) -> None:
        self.story, self.loop = story, ManualLoop()
        self.events: list[FleetEvent] = []
        self.launcher = WithoutProcesses(
            folder, default_site="demo", logins_per_browser=story.per_browser, stream_ports=StreamPorts(5000)
        )
        self.launcher.executed = []
        self.supervisor = self.loop.call(self.make)

    def make(self) -> Supervisor:
        return Supervisor(
            launcher=self.launcher,
            pool=Pool(max_queue=1),
            ports=PortPlan(1, 1000, 5000),
            policy=Policy(
                parallel_starts=4,
                start_probe_interval_s=0.5,
                probe_interval_s=5.0,
                suspects_alone=self.story.per_browser if self.story.limited else 0,
            ),
            client=AlwaysReady(),
            hooks=[self.events.append],
            clock=self.loop.time,
            wall=self.loop.time,
            rand=lambda: 0.5,
        )

    def tell(self) -> Outcome:
        """Let it happen."""
        profiles = [TestProfile(f"{n}", f"login {n}", f"{n}") for n in range(self.story.logins)]
        self.loop.run_until_complete(self.supervisor.start(profiles, KeyStore()))
        due, most = sorted(self.story.deaths_at), 0
        away_since, longest = dict.fromkeys(range(self.story.logins), 0.0), dict[int, float]()
        while self.loop.now < self.story.ends_at:
            self.settle()
            most = max(most, len(self.browsers()))
            serving = self.serving()
            for number in range(self.story.logins):
                if number in serving:
                    away_since[number] = self.loop.now
                longest[number] = max(longest.get(number, 0.0), self.loop.now - away_since[number])
            if due and self.loop.now >= due[0]:
                due.pop(0)
                for browser in self.browsers():
                    self.loop.call(browser.die, -9)
            self.bad_logins_act()
            self.settle()
            self.loop.advance(STEP_S)
        assert not self.supervisor.failed.done(), self.supervisor.failed.exception()
        exits = [int(event.child) for event in self.events if isinstance(event, ChildExited)]
        crashed = [e for e in self.events if isinstance(e, ChildMoved) and e.reason is Reason.CRASH_LOOP]
        rested = frozenset(int(event.child) for event in crashed)
        return Outcome(most, rested, self.serving(), {n: exits.count(n) for n in set(exits)}, longest)

    def serving(self) -> frozenset[int]:
        return frozenset(int(one.name) for one in self.supervisor.snapshot() if one.state is State.READY)

    def browsers(self) -> list[FakeProcess]:
        return [process for process in self.launcher.executed if process.returncode is None]

    def bad_logins_act(self) -> None:
        for number in self.story.bad:
            run = self.supervisor.child(f"{number}").run
            if run is None or run.process is None or self.loop.now - run.began_at < self.story.fuse_s:
                continue
            for browser in self.browsers():
                if browser.pid == run.process.pid:
                    self.loop.call(browser.die, -11)

    def settle(self) -> None:
        for _ in range(1000):
            self.loop.turn()
            if not [None for process in self.launcher.executed if obey(self.loop, process)]:
                return
        raise AssertionError("the hosts do not come to rest")

    def close(self) -> None:
        stopping = self.loop.create_task(self.supervisor.stop())
        for _ in range(40):
            self.settle()
            self.loop.advance(STEP_S)
        self.loop.run_until_complete(stopping)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


def told(story: Story) -> Outcome:
    folder = Path(tempfile.mkdtemp())
    with mock.patch.object(processes, "send_signal", send_to_fake):
        machine = Machine(story, folder)
        try:
            return machine.tell()
        finally:
            machine.close()
            shutil.rmtree(folder, ignore_errors=True)


stories = st.builds(
    Story,
    logins=st.integers(2, 20),
    per_browser=st.integers(2, 6),
    bad=st.frozensets(st.integers(0, 19), max_size=2),
    fuse_s=st.sampled_from([0.5, 3.0, 20.0]),
    deaths_at=st.lists(st.sampled_from([10.0, 14.0, 20.0, 45.0, 80.0]), unique=True, max_size=4).map(tuple),
).map(
    lambda story: Story(
        story.logins,
        story.per_browser,
        frozenset(n for n in story.bad if n < story.logins),
        story.fuse_s,
        story.deaths_at,
    )
)


@settings(max_examples=size(8, 300))
@given(stories)
@example(Story(12, 4, frozenset({5}), 3.0, (10.0, 14.0)))
def test_bad_logins_end_up_alone_and_nobody_rests_for_them(story: Story) -> None:
    outcome = told(story)
    assert outcome.rested <= story.bad, outcome
    assert outcome.serving >= set(range(story.logins)) - story.bad, outcome


@pytest.mark.parametrize("deaths", [(10.0, 14.0), (10.0, 14.0, 20.0), (10.0, 14.0, 20.0, 28.0)])
@pytest.mark.parametrize(("logins", "per_browser"), [(8, 2), (12, 4), (24, 8)])
def test_a_death_of_all_browsers_does_not_multiply_them(
    logins: int, per_browser: int, deaths: tuple[float, ...]
) -> None:
    story = Story(logins, per_browser, deaths_at=deaths)
    outcome = told(story)
    assert outcome.serving == set(range(logins))
    assert outcome.most_browsers <= story.planned + per_browser, outcome
    assert not outcome.rested
    # The longest delay before a start is what they are away for: nobody waits for others.
    assert max(outcome.longest_away_s.values()) <= 2 * STEP_S + 0.75 * 0.5 * 2 ** (len(deaths) - 1) + STEP_S, outcome


def test_without_the_limit_every_login_would_have_a_browser() -> None:
    """Else the test above would show nothing."""
    assert told(Story(12, 4, deaths_at=(10.0, 14.0), limited=False)).most_browsers == 12


@pytest.mark.parametrize("per_browser", [2, 4, 8])
@pytest.mark.parametrize("bad", [0, 1])
def test_a_bad_login_takes_others_along_twice_and_no_more(per_browser: int, bad: int) -> None:
    outcome = told(Story(2 * per_browser, per_browser, frozenset({bad})))
    assert outcome.rested == {bad}
    assert max((count for login, count in outcome.ends.items() if login != bad), default=0) == 2

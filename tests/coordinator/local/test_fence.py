"""Children that are fenced, by their coordinator or by the deadline that it gives them."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from contract import child_environment
from contract.claim_deadline import ClaimDeadlineFile, boottime
from contract.exit_codes import ExitCode
from coordinator.local.host import HostedChild
from coordinator.local.launcher import LocalLauncher
from coordinator.supervision.child_run import ChildRun
from coordinator.supervision.events import ChildExited, ChildMoved, FleetEvent
from coordinator.supervision.launcher import ChildSpec
from coordinator.supervision.lifecycle import Reason, State
from tests.coordinator.fleet import Fleet, alive, prepared_fleet, running_fleet
from tests.support.ports import free_range
from tests.support.waiting import HANG_LIMIT_S, eventually


def exits(fleet: Fleet, name: str) -> list[tuple[int | None, Reason]]:
    """The exit codes and reasons of its ends, so far."""
    ends = [event for event in fleet.events if isinstance(event, ChildExited)]
    return [(event.exit_code, event.reason) for event in ends if event.child == name]


def run_of(fleet: Fleet, name: str) -> ChildRun:
    run = fleet.supervisor.child(name).run
    assert run is not None
    return run


async def test_a_fenced_child_of_a_host_takes_the_host_and_its_neighbours_along_at_once(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, logins_per_browser=4) as fleet:
        fleet.plan("a", browser=True)
        await fleet.start([fleet.profile(name) for name in "abc"])
        for name in "abc":
            await fleet.until(name, State.READY)
        fleet.plan("a")
        pid, browser = fleet.status("a").pid, fleet.notes("a", "browsers")[0]["pid"]
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)  # no order could reach it
        run = run_of(fleet, "a")
        assert isinstance(run.process, HostedChild)
        run.fence()
        assert not run.process.host.takes_children
        await eventually(lambda: not alive(pid) and not alive(browser))
        for name in "abc":
            await fleet.until_start(name, 2)
            assert exits(fleet, name) == [(-signal.SIGKILL, Reason.KILLED)]
        run.fence()  # it has ended: whoever has come after it is left alone
        assert all(alive(fleet.status(name).pid or 0) for name in "abc")


async def test_a_fence_comes_before_the_time_that_a_kill_gives_a_page(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "ab", logins_per_browser=2) as fleet:
        await fleet.behave("a", ignore_kill=True)
        run = run_of(fleet, "a")
        run.kill()
        run.fence()
        await fleet.until_start("b", 2)
        assert [exits(fleet, name) for name in "ab"] == [[(-signal.SIGKILL, Reason.KILLED)]] * 2


async def test_a_fenced_child_alone_is_killed(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "ab") as fleet:
        pid = fleet.status("b").pid
        run_of(fleet, "a").fence()
        await fleet.until_start("a", 2)
        assert exits(fleet, "a") == [(-signal.SIGKILL, Reason.KILLED)]
        assert fleet.status("b").pid == pid


@pytest.mark.parametrize("logins_per_browser", [1, 2])
async def test_a_child_that_is_fenced_while_it_is_being_started_is_killed_once_it_is_there(
    tmp_path: Path, logins_per_browser: int
) -> None:
    fenced: list[ChildRun] = []

    def fence() -> None:
        run = run_of(fleet, "a")
        assert run.process is None
        run.fence()
        fenced.append(run)

    def hear(event: FleetEvent) -> None:
        if isinstance(event, ChildMoved) and event.new.state is State.STARTING and not fenced:
            asyncio.get_running_loop().call_soon(fence)  # before the task that starts it has begun

    async with prepared_fleet(tmp_path, [hear], logins_per_browser=logins_per_browser) as fleet:
        await fleet.start([fleet.profile("a")])
        await eventually(lambda: fenced)
        await asyncio.wait_for(fenced[0].gone.wait(), HANG_LIMIT_S)
        assert fenced[0].process is not None
        assert exits(fleet, "a") == [(-signal.SIGKILL, Reason.KILLED)]
        await fleet.until_start("a", 2)


@pytest.mark.parametrize("logins_per_browser", [1, 2])
async def test_children_end_at_the_deadline_that_their_coordinator_gives_them_and_come_back_with_it(
    tmp_path: Path, logins_per_browser: int
) -> None:
    writer = ClaimDeadlineFile(tmp_path / "deadline")
    writer.extend(boottime() + 3600)
    async with prepared_fleet(
        tmp_path,
        logins_per_browser=logins_per_browser,
        claim_deadline_file=tmp_path / "deadline",
        crash_loop_after=3,
    ) as fleet:
        await fleet.start([fleet.profile(name) for name in "ab"])
        for name in "ab":
            await fleet.until(name, State.READY)
        writer.end()
        # More often than a crash loop takes: no rest follows, however long the claim is away.
        await eventually(lambda: min(len(exits(fleet, name)) for name in "ab") > 4)
        for name in "ab":
            assert set(exits(fleet, name)) == {(ExitCode.CLAIM_OVER, Reason.CLAIM_LOST)}
            assert fleet.status(name).state is not State.RESTING
        writer.extend(boottime() + 3600)
        for name in "ab":
            await fleet.until(name, State.READY)


@pytest.mark.parametrize("remote_login", [False, True])
async def test_a_child_in_which_a_person_logs_in_has_no_deadline(tmp_path: Path, remote_login: bool) -> None:
    program = ("sh", "-c", 'printenv >"$TABFLEET_RUN_DIR/environment"')
    launcher = LocalLauncher(tmp_path, program=program, claim_deadline_file=Path("deadline"))
    launcher.open()
    try:
        port = free_range(2)
        spec = ChildSpec("a", tmp_path / "a.json", port, port + 1, 1, "instance", "token", remote_login=remote_login)
        child = await launcher.start(spec)
        assert await asyncio.wait_for(child.wait(), HANG_LIMIT_S) == 0
        lines = (launcher.root.folder("a").path / "environment").read_text().splitlines()
        told = [line for line in lines if line.startswith(f"{child_environment.CLAIM_DEADLINE_FILE}=")]
        where = f"{child_environment.CLAIM_DEADLINE_FILE}={launcher.root.path / 'deadline'}"
        assert told == ([] if remote_login else [where])
        await child.clean_up()
    finally:
        await launcher.close()

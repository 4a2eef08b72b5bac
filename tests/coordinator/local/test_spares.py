"""Browsers without a login, kept for the next starts: who takes one, and what becomes of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

from structlog.testing import capture_logs

from contract.exit_codes import ExitCode
from contract.processes import ProcessIdentity
from contract.run_folder import write_processes
from contract.surroundings import Surroundings
from coordinator.fleet_file.login import Login
from coordinator.local.launcher import LocalLauncher
from coordinator.supervision.events import ChildExited, ChildReady, FleetEvent
from coordinator.supervision.launcher import ChildSpec
from coordinator.supervision.lifecycle import State
from tests.coordinator.fleet import Fleet, alive, prepared_fleet, running_fleet
from tests.support.ports import is_free
from tests.support.waiting import eventually


def spare_pids(fleet: Fleet) -> list[int]:
    """The pids of the spares that there are now."""
    assert fleet.launcher._hosts is not None
    return [host.pid for host in fleet.launcher._hosts.all if host.is_spare and host.pid is not None]


def spare_pid(fleet: Fleet) -> int:
    (pid,) = spare_pids(fleet)
    return pid


async def add(fleet: Fleet, names: str, **logins: Login) -> None:
    """Make these the profiles, and wait until all are READY."""
    profiles = [replace(fleet.profile(name), login=logins.get(name, Login())) for name in names]
    await fleet.supervisor.reconcile(profiles)
    for name in names:
        await fleet.until(name, State.READY)


# Who takes one


async def test_a_start_takes_the_spare_and_another_one_takes_its_place(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=1) as fleet:
        await fleet.until_spare()
        spare = spare_pid(fleet)
        assert fleet.launcher.own_pids == {fleet.status("a").pid, spare}
        await add(fleet, "ab")
        assert fleet.status("b").pid == spare
        await fleet.until_spare()
        assert (fleet.spares.taken, fleet.spares.failures) == (1, 0)
        first = fleet.ports.base_stream_port
        assert [host["stream"] for host in fleet.hosts()] == [first, first + 1, first + 2]
        pids = {fleet.status("a").pid, spare, spare_pid(fleet)}
        assert len(pids) == 3
    assert not any(alive(pid) for pid in pids if pid)
    assert all(is_free(first + number) for number in range(3))


async def test_with_one_login_a_browser_a_spare_takes_exactly_one_child(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=2) as fleet:
        await fleet.until_spare(2)
        spares = spare_pids(fleet)
        await add(fleet, "abc")
        assert {fleet.status(name).pid for name in "bc"} == set(spares)
        fleet.supervisor.restart("b")
        await fleet.until_start("b", 2)
        assert not alive(spares[0]) or not alive(spares[1])  # it ended with its child
        assert len({fleet.status(name).pid for name in "abc"}) == 3


async def test_room_in_a_browser_goes_before_a_spare(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", logins_per_browser=2, spare_browsers=1) as fleet:
        await fleet.until_spare()
        spare = spare_pid(fleet)
        await add(fleet, "ab")
        assert fleet.status("b").pid == fleet.status("a").pid
        assert (spare_pid(fleet), fleet.spares.taken) == (spare, 0)
        await add(fleet, "abcd")
        assert fleet.status("c").pid == fleet.status("d").pid == spare
        assert fleet.spares.taken == 1


async def test_a_spare_is_for_a_login_of_any_site_and_its_address_comes_with_the_order(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("models = []\n")
    url = "http://127.0.0.1:9/"
    async with running_fleet(tmp_path, "a", spare_browsers=2, logins_per_browser=4, site_url=url) as fleet:
        await fleet.until_spare(2)
        spares = spare_pids(fleet)
        other = Login(site=str(tmp_path / "other.toml"))
        await add(fleet, "abc", b=other, c=other)
        assert fleet.status("b").pid == fleet.status("c").pid
        assert fleet.status("b").pid in spares
        starts = {name: fleet.notes(name, "starts")[0] for name in "ab"}
        assert (starts["a"]["site"], starts["a"]["site_url"]) == ("demo", url)
        assert (starts["b"]["site"], starts["b"]["site_url"]) == (str(tmp_path / "other.toml"), None)
        assert all("SITE_URL" not in host["environment"] for host in fleet.hosts())


async def test_a_login_with_its_own_proxy_and_a_login_that_a_person_does_take_none(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=1) as fleet:
        await fleet.until_spare()
        spare = spare_pid(fleet)
        await add(fleet, "ab", b=Login(surroundings=Surroundings(proxy="http://127.0.0.1:9")))
        port = fleet.ports.slot(9).api_port
        spec = ChildSpec("@login", Path(), port, 0, 1, "instance", "token", remote_login=True)
        process = await fleet.launcher.start(spec)
        assert spare not in (process.pid, fleet.status("b").pid)
        process.kill()
        await process.wait()
        await process.clean_up()
        assert (spare_pid(fleet), fleet.spares.taken) == (spare, 0)


async def test_a_suspect_takes_no_spare(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=1) as fleet:
        for generation in (2, 3):  # after two short lives it is one
            await fleet.until_spare()
            pid = fleet.status("a").pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await fleet.until_start("a", generation)
        assert fleet.spares.taken == 1
        await fleet.until_spare()
        assert fleet.status("a").pid not in [host["pid"] for host in fleet.hosts()]


async def test_a_start_that_meets_a_dying_spare_goes_on_in_another_browser(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=1) as fleet:
        await fleet.until_spare()
        spare = spare_pid(fleet)
        os.kill(spare, signal.SIGKILL)
        await add(fleet, "ab")
        assert fleet.status("b").pid != spare
        await fleet.until_spare()
        assert not alive(spare)


async def test_a_spare_that_still_starts_is_taken(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=1) as fleet:
        await fleet.until_spare()
        fleet.plan_hosts(never_up=True)  # the next ones, and the fake child does not wait for a browser
        await add(fleet, "ab")
        await eventually(lambda: len(spare_pids(fleet)) == 1)
        spare = spare_pid(fleet)
        assert fleet.spares.ready == 0
        await add(fleet, "abc")
        assert fleet.status("c").pid == spare


# When they are started, and when they end


async def test_no_spare_is_started_while_a_child_is(tmp_path: Path) -> None:
    seen: list[int] = []

    def count(event: FleetEvent) -> None:
        if isinstance(event, ChildReady):
            seen.append(len(fleet.hosts()))

    async with prepared_fleet(tmp_path, [count], spare_browsers=2, parallel_starts=1) as fleet:
        for name in "abc":
            fleet.plan(name, start_s=0.2)
        await fleet.start([fleet.profile(name) for name in "abc"])
        await fleet.until_spare(2)
        assert seen == [1, 2, 3]
        assert len(fleet.hosts()) == 5


async def test_a_spare_that_is_killed_is_replaced_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=1) as fleet:
        await fleet.until_spare()
        spare = spare_pid(fleet)
        with capture_logs() as logs:
            os.kill(spare, signal.SIGKILL)
            await eventually(lambda: fleet.spares.failures == 1)
            await fleet.until_spare()
        assert not alive(spare)
        assert spare_pid(fleet) != spare
        assert fleet.hosts()[-1]["stream"] == fleet.ports.base_stream_port + 1
        assert sorted(folder.name for folder in (fleet.run_root.path / "hosts").iterdir()) == ["1", "2"]
        (lost,) = [line for line in logs if line["event"] == "spare_browser_lost"]
        assert (lost["host"], lost["exit_code"], lost["log_level"]) == ("@host-2", -signal.SIGKILL, "warning")
        assert fleet.spares.warning is None


async def test_a_browser_that_cannot_be_had_is_tried_less_and_less_often_and_logged_once(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=2) as fleet:
        await fleet.until_spare(2)
        fleet.plan_hosts(exit_code=ExitCode.NO_BROWSER)
        with capture_logs() as logs:
            for pid in spare_pids(fleet):
                os.kill(pid, signal.SIGKILL)
            await eventually(lambda: fleet.spares.failures_in_a_row == 4, what=lambda: fleet.spares)
        lost = [line for line in logs if line["event"] == "spare_browser_lost"]
        assert [line["log_level"] for line in lost] == ["warning", "debug", "debug", "debug"]
        assert lost[-1]["exit_code"] == ExitCode.NO_BROWSER
        delays = [line["next_in_s"] for line in lost]
        assert delays == sorted(delays)
        assert fleet.spares.warning == (
            "No spare browser can be had (SPARE_BROWSERS=2): the last 4 ended at once, the log says why. "
            "Each start takes a browser of its own meanwhile."
        )
        assert fleet.is_in("a", State.READY)
        fleet.plan_hosts()
        await fleet.until_spare(2)
        assert fleet.spares.warning is None


async def test_a_spare_that_cannot_even_begin_is_tried_again(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=1) as fleet:
        await fleet.until_spare()
        program, fleet.launcher._setpriv = fleet.launcher._setpriv, "/does/not/exist"
        os.kill(spare_pid(fleet), signal.SIGKILL)
        await eventually(lambda: fleet.spares.failures == 3)
        fleet.launcher._setpriv = program
        await fleet.until_spare()
        assert fleet.hosts()[-1]["stream"] == fleet.ports.base_stream_port + 1


async def test_a_spare_without_its_folder_is_not_taken_and_replaced(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=1) as fleet:
        await fleet.until_spare()
        spare = spare_pid(fleet)
        shutil.rmtree(fleet.run_root.path / "hosts" / "2")
        assert fleet.spares.ready == 0
        await add(fleet, "ab")
        assert fleet.status("b").pid != spare
        await fleet.until_spare()
        assert not alive(spare)


async def test_a_spare_whose_browser_was_upgraded_is_not_taken_and_replaced(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=1) as fleet:
        await fleet.until_spare()
        spare = spare_pid(fleet)
        program = shutil.copy(str(shutil.which("sleep")), tmp_path / "browser")
        browser = await asyncio.create_subprocess_exec(program, "600", start_new_session=True)
        identity = ProcessIdentity.of(browser.pid)
        assert identity is not None
        write_processes(fleet.run_root.path / "hosts" / "2", {"browser": identity})
        assert fleet.spares.ready == 1
        Path(program).unlink()
        assert fleet.spares.ready == 0
        await add(fleet, "ab")
        assert fleet.status("b").pid != spare
        await fleet.until_spare()
        assert not alive(spare)
        assert await browser.wait() == -signal.SIGKILL


async def test_spares_end_as_soon_as_the_fleet_drains_and_none_is_started_then(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=2) as fleet:
        await fleet.until_spare()
        fleet.plan_hosts(never_up=True)
        os.kill(spare_pids(fleet)[0], signal.SIGKILL)  # so that one or two still start
        await eventually(lambda: fleet.hosts()[-1]["pid"] in spare_pids(fleet))
        pids = spare_pids(fleet)
        fleet.supervisor.begin_drain()
        await eventually(lambda: not any(map(alive, pids)))
        started = len(fleet.hosts())
        await fleet.supervisor.stop()
        assert len(fleet.hosts()) == started
        assert fleet.spares.ready == 0
        assert not fleet.run_root.path.exists()


async def test_a_spare_that_is_being_spawned_ends_with_the_launcher(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=1) as fleet:
        await fleet.until_spare()
        spawned: list[asyncio.subprocess.Process] = []
        execute, release = fleet.launcher._execute, asyncio.Event()

        async def held(*arguments: object, **more: object) -> asyncio.subprocess.Process:
            spawned.append(await execute(*arguments, **more))  # type: ignore[arg-type]
            await release.wait()
            return spawned[-1]

        fleet.launcher._execute = held  # type: ignore[method-assign]
        os.kill(spare_pid(fleet), signal.SIGKILL)
        await eventually(lambda: spawned)
        stopping = asyncio.create_task(fleet.supervisor.stop())
        release.set()
        await stopping
        await eventually(partial(lambda pid: not alive(pid), spawned[0].pid))


async def test_without_spares_there_is_no_host_and_nothing_is_told_of_them(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a") as fleet:
        assert fleet.launcher.spares() is None
        assert fleet.hosts() == []
    async with running_fleet(tmp_path, "bc", logins_per_browser=2) as fleet:
        assert fleet.launcher.spares() is None
        assert len(fleet.hosts()) == 1


def test_a_launcher_that_is_not_open_has_no_spares(tmp_path: Path) -> None:
    launcher = LocalLauncher(tmp_path)
    launcher.allow_spares(allowed=True)
    launcher.end_spares()
    assert launcher.spares() is None


async def test_losses_of_spares_are_no_exits_of_children(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", spare_browsers=1) as fleet:
        await fleet.until_spare()
        os.kill(spare_pid(fleet), signal.SIGKILL)
        await eventually(lambda: fleet.spares.failures == 1)
        await fleet.until_spare()
        assert not [event for event in fleet.events if isinstance(event, ChildExited)]

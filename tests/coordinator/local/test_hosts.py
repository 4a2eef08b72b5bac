"""Several children in one process: each has a life of its own, and all end with their host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from contract import child_environment
from contract.surroundings import Surroundings
from coordinator.fleet_file.login import Login
from coordinator.local.host import HostedChild
from coordinator.supervision.events import ChildExited, ChildMoved
from coordinator.supervision.lifecycle import Event, Reason, State
from coordinator.supervision.supervisor import Reconciled
from tests.coordinator.fleet import Fleet, alive, causes, prepared_fleet, running_fleet
from tests.support.ports import is_free
from tests.support.waiting import HANG_LIMIT_S, eventually

EIGHT = "abcdefgh"
FOUR = "abcd"


def pids(fleet: Fleet, names: Iterable[str]) -> dict[str, int | None]:
    return {name: fleet.status(name).pid for name in names}


def exits(fleet: Fleet, name: str) -> list[int | None]:
    return [event.exit_code for event in fleet.events if isinstance(event, ChildExited) and event.child == name]


async def all_ready(fleet: Fleet, names: Iterable[str]) -> None:
    for name in names:
        await fleet.until(name, State.READY)


async def ask(fleet: Fleet, name: str, request_id: str, **fake: Any) -> str | None:
    """Send one request to that child; return the whole answer, or None if the connection broke."""
    body = {"model": "fake", "stream": True, "messages": [{"role": "user", "content": request_id}], "fake": fake}
    headers = {"x-request-id": request_id}
    try:
        async with fleet.http.post(f"{fleet.url(name)}/v1/chat/completions", json=body, headers=headers) as response:
            return await response.text()
    except aiohttp.ClientError:
        return None


@contextlib.asynccontextmanager
async def asking(fleet: Fleet, names: Iterable[str], hold: Path) -> AsyncIterator[dict[str, asyncio.Task[str | None]]]:
    """A request to each of these, which is answered in part, and goes on when the file `hold` is there."""
    tasks = {name: asyncio.create_task(ask(fleet, name, f"of-{name}", hold=str(hold), tokens=3)) for name in names}
    for name in names:
        await eventually(partial(fleet.notes, name, "ledger"))
    yield tasks
    for task in tasks.values():
        task.cancel()


def stream_ports(fleet: Fleet) -> list[int]:
    return [host["stream"] for host in fleet.hosts()]


def host_folders(fleet: Fleet) -> list[Path]:
    return sorted((fleet.run_root.path / "hosts").glob("*"))


# Each child's own


async def test_eight_children_in_hosts_of_four_take_two_processes_and_two_stream_ports(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, EIGHT, logins_per_browser=4) as fleet:
        in_use = pids(fleet, EIGHT)
        assert len(set(in_use.values())) == 2
        assert all(list(in_use.values()).count(pid) == 4 for pid in in_use.values())
        first = fleet.ports.base_stream_port
        assert sorted(stream_ports(fleet)) == [first, first + 1]
        assert {host["pid"] for host in fleet.hosts()} == set(in_use.values())
        assert not is_free(first)
        assert is_free(first + 2)
        assert fleet.launcher.own_pids == set(in_use.values())
        assert [folder.name for folder in host_folders(fleet)] == ["1", "2"]
    assert not any(alive(pid) for pid in in_use.values() if pid)
    assert is_free(first)
    assert is_free(first + 1)


async def test_each_child_answers_for_itself_and_notes_what_was_submitted_in_its_own_folder(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, FOUR, logins_per_browser=4) as fleet:
        for name in FOUR:
            answer = str(await ask(fleet, name, f"of-{name}"))
            assert fleet.notes(name, "ledger")[0]["token"] in answer
        for name in FOUR:
            backend = fleet.pool.get(name)
            assert backend is not None
            asked = {f"of-{other}": fleet.supervisor.was_submitted(backend, f"of-{other}") for other in FOUR}
            assert asked == {f"of-{other}": other == name for other in FOUR}
        assert len({fleet.url(name) for name in FOUR}) == 4


async def test_a_child_that_ends_has_its_own_exit_code_and_its_neighbours_answers_go_on(tmp_path: Path) -> None:
    hold = tmp_path / "go"
    async with running_fleet(tmp_path, EIGHT, logins_per_browser=8) as fleet:
        others = EIGHT[1:]
        before = pids(fleet, others)
        async with asking(fleet, others, hold) as answers:
            await fleet.behave("a", exit_code=73)
            await fleet.until_start("a", 2)
            assert exits(fleet, "a") == [73]
            hold.touch()
            for name in others:
                assert str(await asyncio.wait_for(answers[name], HANG_LIMIT_S)).endswith("data: [DONE]\n\n")
        assert pids(fleet, others) == before
        assert fleet.status("a").pid == before["b"]  # its place was free again
        assert all(causes(fleet, name) == [Event.SLOT_FREE, Event.PROBE_OK] for name in others)
        assert len(fleet.hosts()) == 1


async def test_a_cancel_stops_the_one_request(tmp_path: Path) -> None:
    hold = tmp_path / "go"
    async with running_fleet(tmp_path, "ab", logins_per_browser=2) as fleet, asking(fleet, "ab", hold) as answers:
        backend = fleet.pool.get("a")
        assert backend is not None
        assert await fleet.supervisor.cancel(backend, "of-a")
        hold.touch()
        assert "[DONE]" in str(await asyncio.wait_for(answers["b"], HANG_LIMIT_S))
        assert fleet.notes("a", "ledger")[-1].get("stopped")
        assert not any(note.get("stopped") for note in fleet.notes("b", "ledger"))


async def test_each_child_has_its_own_last_lines(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "ab", logins_per_browser=2) as fleet:
        for name in "ab":
            await fleet.behave(name, say=f"this is {name}")
        for name in "ab":
            child = fleet.supervisor.child(name)
            assert await eventually(child.last_lines) == (f"this is {name}",)


async def test_a_child_that_goes_with_its_profile_leaves_the_others(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, FOUR, logins_per_browser=4) as fleet:
        before = pids(fleet, "bcd")
        changed = await fleet.supervisor.reconcile([fleet.profile(name) for name in "bcd"])
        assert changed == Reconciled((), (), ("a",))
        await eventually(lambda: [child.name for child in fleet.supervisor.snapshot()] == list("bcd"))
        assert pids(fleet, "bcd") == before
        assert exits(fleet, "a") == [0]
        assert all(causes(fleet, name) == [Event.SLOT_FREE, Event.PROBE_OK] for name in "bcd")
        await fleet.supervisor.reconcile([fleet.profile(name) for name in "bcde"])
        await fleet.until("e", State.READY)
        assert fleet.status("e").pid == before["b"]


async def test_the_last_child_of_a_host_takes_the_host_its_folder_and_its_port_with_it(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "abc", logins_per_browser=2) as fleet:
        in_use = list(pids(fleet, "abc").values())
        lonely = next(name for name, pid in pids(fleet, "abc").items() if in_use.count(pid) == 1)
        pid = fleet.status(lonely).pid
        port = next(host["stream"] for host in fleet.hosts() if host["pid"] == pid)
        await fleet.supervisor.reconcile([fleet.profile(name) for name in "abc" if name != lonely])
        await eventually(lambda: len(fleet.supervisor.snapshot()) == 2)
        assert not alive(pid or 0)
        assert is_free(port)
        assert len(host_folders(fleet)) == 1


async def test_a_host_that_does_not_end_without_children_is_killed(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "a", logins_per_browser=2) as fleet:
        pid = fleet.status("a").pid
        assert pid is not None
        await fleet.behave("a", linger=True)
        fleet.supervisor.restart("a")
        status = await fleet.until_start("a", 2)  # the slot, and so its stream port, was free only then
        assert not alive(pid)
        assert status.pid != pid
        assert set(stream_ports(fleet)) == {fleet.ports.base_stream_port}


# Who shares, and with whom


async def test_sites_are_not_mixed_and_a_login_with_its_own_proxy_has_its_own_process(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, logins_per_browser=8) as fleet:
        (tmp_path / "other.toml").write_text("models = []\n")
        other = Login(site=str(tmp_path / "other.toml"))
        proxied = Login(surroundings=Surroundings(proxy="http://127.0.0.1:9"))
        abroad = Login(surroundings=Surroundings(locale="de-DE"))
        logins = {"a": Login(), "b": abroad, "c": other, "d": other, "e": proxied}
        await fleet.start([replace(fleet.profile(name), login=login) for name, login in logins.items()])
        await all_ready(fleet, logins)
        in_use = pids(fleet, logins)
        assert in_use["a"] == in_use["b"]
        assert in_use["c"] == in_use["d"]
        assert len(set(in_use.values())) == 3
        starts = {name: fleet.notes(name, "starts")[0] for name in logins}
        assert starts["c"]["site"] == str(tmp_path / "other.toml")
        assert starts["a"]["site"] == "demo"
        assert starts["b"]["surroundings"] == {"locale": "de-DE"}
        assert starts["a"]["surroundings"] is None
        assert len(fleet.hosts()) == 2


async def test_children_of_a_host_are_given_the_copy_of_their_site_file_under_its_own_name(tmp_path: Path) -> None:
    site = tmp_path / "my.toml"
    site.write_text("old = 1\n")
    async with prepared_fleet(tmp_path, logins_per_browser=2, default_site=str(site)) as fleet:
        fleet.supervisor.use_site("my", str(site), "old = 1\n")
        site.write_text("new = 1\n")
        await fleet.start([fleet.profile(name) for name in "ab"])
        await all_ready(fleet, "ab")
        for name in "ab":
            assert fleet.notes(name, "sites") == [{"text": "old = 1\n", "shown": str(site)}]


async def test_a_full_host_takes_no_further_child_and_serves_those_it_has(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, logins_per_browser=4) as fleet:
        fleet.plan("a", full=True)
        await fleet.start([fleet.profile("a")])
        await fleet.until("a", State.READY)
        await eventually(lambda: fleet.launcher._hosts and fleet.launcher._hosts.with_room(None) is None)
        await fleet.supervisor.reconcile([fleet.profile(name) for name in "ab"])
        await fleet.until("b", State.READY)
        assert fleet.status("a").pid != fleet.status("b").pid
        assert causes(fleet, "a") == [Event.SLOT_FREE, Event.PROBE_OK]


async def test_a_renewed_login_starts_in_a_host_too(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "ab", logins_per_browser=2) as fleet:
        fleet.supervisor.renew("a", {"cookies": [], "origins": []})
        await fleet.until_start("a", 2)
        session = fleet.run_root.folder("a").path / "session.json"
        assert json.loads(session.read_text())["source_sha256"] == fleet.profile("a").sha256
        assert fleet.status("a").pid == fleet.status("b").pid


# Faults


async def test_children_of_a_killed_host_come_back_in_a_new_one_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, logins_per_browser=4) as fleet:
        fleet.plan("a", orphan=True)
        await fleet.start([fleet.profile(name) for name in FOUR])
        await all_ready(fleet, FOUR)
        fleet.plan("a")
        pid, orphan = fleet.status("a").pid, fleet.notes("a", "orphans")[0]["pid"]
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for name in FOUR:
            await fleet.until_start(name, 2)
            assert exits(fleet, name) == [-signal.SIGKILL]
            assert causes(fleet, name)[2:] == [Event.EXITED, Event.DELAY_OVER, Event.PROBE_OK]
        assert not alive(pid)
        assert not alive(orphan)
        assert len(set(pids(fleet, FOUR).values())) == 1
        assert stream_ports(fleet) == [fleet.ports.base_stream_port] * 2
        assert [folder.name for folder in host_folders(fleet)] == ["1"]


async def test_children_of_a_host_that_hangs_are_replaced(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, FOUR, logins_per_browser=4, unhealthy_timeout_s=0.5, term_grace_s=0.2) as fleet:
        pid = fleet.status("a").pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        for name in FOUR:
            await fleet.until_start(name, 2)
        assert not alive(pid)
        assert len(set(pids(fleet, FOUR).values())) == 1


async def test_a_host_that_reads_no_orders_gets_no_child_and_a_kill_means_the_host(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "ab", logins_per_browser=3) as fleet:
        pid, run = fleet.status("a").pid, fleet.supervisor.child("a").run
        assert pid is not None
        assert run is not None
        assert isinstance(run.process, HostedChild)
        os.kill(pid, signal.SIGSTOP)
        while run.process.host.order_end("nobody", "term"):
            pass
        await fleet.supervisor.reconcile([fleet.profile(name) for name in "abc"])
        await fleet.until("c", State.READY)
        assert fleet.status("c").pid != pid
        assert exits(fleet, "a") == []
        run.kill()
        for name in "ab":
            await fleet.until_start(name, 2)
            assert exits(fleet, name) == [-signal.SIGKILL]
        assert exits(fleet, "c") == []
        assert not alive(pid)


async def test_a_page_that_is_not_closed_at_once_takes_its_host_along_and_the_neighbours_come_back(
    tmp_path: Path,
) -> None:
    async with running_fleet(tmp_path, "abc", logins_per_browser=3, term_grace_s=0.1) as fleet:
        pid = fleet.status("a").pid
        assert pid is not None
        await fleet.behave("a", ignore_term=True, ignore_kill=True)
        fleet.supervisor.restart("a")
        for name in "abc":
            await fleet.until_start(name, 2)
            assert exits(fleet, name) == [-signal.SIGKILL]
        assert not alive(pid)
        assert Reason.KILLED in {event.reason for event in fleet.events if isinstance(event, ChildMoved)}


async def test_a_page_that_is_closed_at_once_leaves_the_host_alone(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "ab", logins_per_browser=2, term_grace_s=0.1) as fleet:
        pid = fleet.status("b").pid
        await fleet.behave("a", ignore_term=True)
        fleet.supervisor.restart("a")
        await fleet.until_start("a", 2)
        assert pids(fleet, "ab") == {"a": pid, "b": pid}
        assert causes(fleet, "b") == [Event.SLOT_FREE, Event.PROBE_OK]


async def test_a_poisonous_login_ends_up_alone_after_two_deaths_and_nobody_rests_for_it(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, logins_per_browser=4) as fleet:
        fleet.plan("a", signal=signal.SIGKILL)
        await fleet.start([fleet.profile(name) for name in FOUR])
        await fleet.until("a", State.RESTING)
        innocent = FOUR[1:]
        await all_ready(fleet, innocent)
        assert len(fleet.hosts()) <= 3  # those that come back last may miss the second death
        for name in innocent:
            assert len(exits(fleet, name)) <= 2
            assert fleet.status(name).generation <= 3
        assert len(exits(fleet, "a")) == fleet.supervisor.policy.crash_loop_after
        assert Reason.CRASH_LOOP not in {
            event.reason for event in fleet.events if isinstance(event, ChildMoved) and event.child in innocent
        }


async def test_a_suspect_that_was_innocent_shares_a_host_again_at_its_next_start(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "ab", logins_per_browser=2) as fleet:
        for generation in (2, 3):
            pid = fleet.status("b").pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            for name in "ab":
                await fleet.until_start(name, generation)
        alone = pids(fleet, "ab")
        assert alone["a"] != alone["b"]
        assert len(fleet.hosts()) == 2
        fleet.supervisor.restart("a")
        await fleet.until_start("a", 4)
        fleet.supervisor.restart("b")
        await fleet.until_start("b", 4)
        assert fleet.status("a").pid == fleet.status("b").pid
        assert len(fleet.hosts()) == 3


async def test_a_host_that_cannot_be_started_fails_the_starts_and_is_tried_again(
    tmp_path: Path,
) -> None:
    async with prepared_fleet(tmp_path, logins_per_browser=2) as fleet:
        program, fleet.launcher._setpriv = fleet.launcher._setpriv, "/does/not/exist"
        await fleet.start([fleet.profile(name) for name in "ab"])
        for name in "ab":
            await fleet.until(name, State.BACKOFF)
            assert fleet.status(name).reason is Reason.SPAWN_FAILED
        fleet.launcher._setpriv = program
        await all_ready(fleet, "ab")
        assert is_free(fleet.ports.base_stream_port + 2)


async def test_the_share_of_memory_counts_and_a_host_over_the_limit_gets_no_child_back(tmp_path: Path) -> None:
    async with running_fleet(
        tmp_path, "ab", logins_per_browser=2, memory_limit_bytes=80 << 20, memory_check_s=0.05
    ) as fleet:
        pid = fleet.status("a").pid
        run = fleet.supervisor.child("a").run
        assert run is not None
        assert run.process is not None
        used = await asyncio.to_thread(run.process.memory_bytes)
        assert used is not None
        assert 0 < used < 80 << 20
        await fleet.behave("a", hold_mib=250)
        for name in "ab":
            await fleet.until_start(name, 2)
            assert Event.MEMORY_LIMIT in causes(fleet, name)
        assert fleet.status("a").pid == fleet.status("b").pid != pid
        assert not alive(pid or 0)


async def test_a_cleaner_that_takes_the_hosts_folder_has_all_its_children_restarted(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "ab", logins_per_browser=2) as fleet:
        pid = fleet.status("a").pid
        (host_folders(fleet)[0] / "tmp").rmdir()
        for name in "ab":
            await fleet.until_start(name, 2)
        assert fleet.status("a").pid == fleet.status("b").pid != pid
        assert not alive(pid or 0)


# What a host is told


async def test_no_control_token_is_in_the_environment_or_on_the_command_line_of_a_host(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "ab", logins_per_browser=2) as fleet:
        (host,) = fleet.hosts()
        runs = [fleet.supervisor.child(name).run for name in "ab"]
        secrets = [text for run in runs if run for text in (run.spec.control_token, run.spec.instance_id)]
        assert len(secrets) == 4
        told = json.dumps([host["arguments"], host["environment"]])
        proc = Path(f"/proc/{host['pid']}")
        told += (proc / "environ").read_text() + (proc / "cmdline").read_text()
        assert not any(secret in told for secret in secrets)
        for absent in (
            child_environment.CONTROL_TOKEN,
            child_environment.INSTANCE_ID,
            child_environment.GENERATION,
            child_environment.SITE_FILE,
        ):
            assert absent not in host["environment"]
        folder = fleet.run_root.path / "hosts" / "1"
        assert host["environment"][child_environment.RUN_DIR] == str(folder)
        assert host["environment"]["TMPDIR"] == str(folder / "tmp")
        assert host["environment"][child_environment.KEY_FILE_PATH] == str(fleet.run_root.key_file)
        assert host["environment"][child_environment.PARENT_PID] == str(os.getpid())
        descriptor = host["arguments"][-1]
        assert host["arguments"] == ["--stream-port", str(host["stream"]), "--host", descriptor]


async def test_without_shared_browsers_there_is_no_host(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, "ab") as fleet:
        assert fleet.hosts() == []
        assert sorted(entry.name for entry in fleet.run_root.path.iterdir()) == ["children", "keys", "lock", "trash"]
        for slot, name in enumerate("ab"):
            pid = fleet.status(name).pid
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            assert command[3:-1] == [
                *("--server-port", str(fleet.ports.slot(slot).api_port)),
                *("--stream-port", str(fleet.ports.slot(slot).stream_port)),
                *("--active-auth-json", str(fleet.profile(name).path)),
            ]

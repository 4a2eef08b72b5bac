"""Supervision of real processes: deaths, faults, slots, reloads, drains, the end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from contract.storage_state.summary import NO_LOGIN
from coordinator.errors import ActionRefused, UnknownChild
from coordinator.local.run_folder import RunFolder
from coordinator.supervision import child_run
from coordinator.supervision.events import (
    ChildCleaned,
    ChildExited,
    ChildMoved,
    ChildReady,
    ChildStarted,
    RestartPlanned,
)
from coordinator.supervision.lifecycle import Event, Reason, State
from coordinator.supervision.ready_probe import ReadyProbe
from tests.coordinator.fleet import Fleet, alive, causes, prepared_fleet, running_fleet
from tests.support.waiting import eventually


def pid_of(fleet: Fleet, name: str) -> int:
    pid = fleet.status(name).pid
    assert pid is not None
    return pid


# Starting


async def test_children_become_ready_and_can_be_leased(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, ["a", "b"]) as fleet:
        assert fleet.supervisor.ready
        assert [status.name for status in fleet.supervisor.snapshot()] == ["a", "b"]
        status = fleet.status("a")
        assert (status.reason, status.restarts, status.models, status.login_expires_at) == (None, 0, ("fake",), 4e9)
        assert status.capture == "network"
        leases = [fleet.pool.try_acquire("fake"), fleet.pool.try_acquire("fake")]
        assert {lease.backend.name for lease in leases if lease} == {"a", "b"}
        assert fleet.status("a").in_flight == 1
        assert await fleet.until_event(ChildReady, lambda event: event.child == "b")


async def test_the_public_status_has_no_path_and_no_log_line(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        shown = json.loads(msgspec.json.encode(fleet.supervisor.public_snapshot()))[0]
        assert set(shown) == {
            *("name", "state", "reason", "since", "restarts", "in_flight", "models", "capture", "asleep"),
            *("login_expires_at", "login_kept", "warnings"),
            *("site", "held_by"),
        }
        assert str(tmp_path) not in repr(shown)


async def test_starts_are_bounded_and_a_start_that_hangs_loses_its_permit(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, parallel_starts=1, start_permit_s=0.5) as fleet:
        fleet.plan("a", never_ready=True)
        await fleet.start([fleet.profile(name) for name in ("a", "b")])
        await fleet.until("a", State.STARTING)
        assert fleet.is_in("b", State.STANDBY)
        await fleet.until("b", State.READY)
        assert fleet.is_in("a", State.STARTING)


async def test_a_child_that_is_not_ready_in_time_is_stopped_and_started_again(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, start_timeout_s=2.0) as fleet:
        fleet.plan("a", never_ready=True)
        await fleet.start([fleet.profile("a")])
        status = await fleet.until("a", State.BACKOFF)
        assert status.reason is Reason.START_TIMEOUT
        fleet.plan("a")
        assert (await fleet.until_start("a", 2)).restarts >= 1


async def test_a_failed_spawn_is_reported(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path) as fleet:
        fleet.launcher._setpriv = str(tmp_path / "missing")
        await fleet.start([fleet.profile("a")])
        status = await fleet.until("a", State.BACKOFF)
        assert status.reason is Reason.SPAWN_FAILED
        assert "No such file" in str(status.detail)


async def test_a_start_for_which_there_is_no_thread_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    async with prepared_fleet(tmp_path) as fleet:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "create_subprocess_exec", no_thread)
            await fleet.start([fleet.profile("a")])
            status = await fleet.until("a", State.BACKOFF)
            assert (status.reason, "can't start new thread" in str(status.detail)) == (Reason.SPAWN_FAILED, True)
        await fleet.until("a", State.READY)


# Deaths


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), RuntimeError("can't start new thread")])
async def test_a_clean_up_that_fails_is_tried_again_and_concerns_its_child_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async with running_fleet(tmp_path, ["a", "b"]) as fleet:
        calls = 0
        empty = RunFolder.empty

        def fails_twice(folder: RunFolder) -> Path | None:
            nonlocal calls
            calls += 1
            if calls <= 2:
                raise error
            return empty(folder)

        monkeypatch.setattr(RunFolder, "empty", fails_twice)
        monkeypatch.setattr(child_run, "_CLEAN_UP_AGAIN_S", 0.01)
        os.kill(pid_of(fleet, "a"), signal.SIGKILL)
        await fleet.until_start("a", 2)
        assert calls == 3
        assert fleet.is_in("b", State.READY)
        assert not fleet.supervisor.failed.done()


async def test_a_fleet_outlives_the_loss_of_its_run_folders(tmp_path: Path) -> None:
    """As after a cleaner of temporary files; what was submitted can then not be told any more."""
    async with running_fleet(tmp_path, ["a", "b"]) as fleet:
        shutil.rmtree(fleet.run_root.path)
        assert fleet.supervisor.was_submitted(fleet.pool._backends["a"], "any") is None
        os.kill(pid_of(fleet, "a"), signal.SIGKILL)
        await fleet.until_start("a", 2)
        await fleet.until_start("b", 2)  # without its folder it could note no request
        (moved,) = [
            e for e in fleet.events if isinstance(e, ChildMoved) and e.child == "b" and e.cause is Event.RESTART
        ]
        assert "run folder is gone" in str(moved.detail)
        assert not fleet.supervisor.failed.done()
        assert stat.S_IMODE(fleet.run_root.path.stat().st_mode) == 0o700


async def test_a_killed_child_is_reported_at_once_and_restarted(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        os.kill(pid_of(fleet, "a"), signal.SIGKILL)
        await eventually(lambda: fleet.status("a").reason is Reason.KILLED)
        assert not any(status.state is State.READY for status in fleet.supervisor.snapshot())
        assert fleet.pool.try_acquire("fake") is None
        assert fleet.pool.serves("fake")
        assert (await fleet.until_start("a", 2)).restarts == 1
        assert fleet.supervisor.ready
        assert [note["generation"] for note in fleet.notes("a", "starts")] == ["1", "2"]


async def test_leftover_processes_are_killed_before_a_restart(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        await fleet.behave("a", orphan=True)
        orphan = fleet.notes("a", "orphans")[0]["pid"]
        os.kill(pid_of(fleet, "a"), signal.SIGKILL)
        cleaned = await fleet.until_event(ChildCleaned)
        assert cleaned.killed == 1
        assert not alive(orphan)
        assert not any(isinstance(event, ChildStarted) and event.generation == 2 for event in fleet.events)
        await fleet.until_start("a", 2)


async def test_another_process_with_the_recorded_pid_is_not_killed(tmp_path: Path) -> None:
    bystander = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    try:
        async with running_fleet(tmp_path) as fleet:
            record = fleet.run_root.folder("a").path / "processes.json"
            entry = f'{{"pid": {bystander.pid}, "pgid": {bystander.pid}, "start_time": 1}}'
            record.write_text(f'{{"driver": {entry}, "browser": {entry}}}')
            os.kill(pid_of(fleet, "a"), signal.SIGKILL)
            assert (await fleet.until_event(ChildCleaned)).killed == 0
            assert bystander.returncode is None
    finally:
        bystander.kill()
        await bystander.wait()


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (1, Reason.CRASHED),
        (69, Reason.PORT_TAKEN),
        (70, Reason.BROWSER_LOST),
        (71, Reason.DRIVER_LOST),
        (73, Reason.PROFILE_LOCKED),
        (76, Reason.CLAIM_LOST),
    ],
)
async def test_an_exit_code_becomes_a_reason_and_a_restart(tmp_path: Path, exit_code: int, reason: Reason) -> None:
    async with running_fleet(tmp_path) as fleet:
        await fleet.behave("a", exit_code=exit_code)
        exited = await fleet.until_event(ChildExited)
        assert (exited.exit_code, exited.reason, exited.expected) == (exit_code, reason, False)
        await fleet.until_start("a", 2)


async def test_the_last_lines_are_kept_without_secrets(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        await fleet.behave("a", say="the browser is gone; cookie=abc123secret", exit_code=70)
        exited = await fleet.until_event(ChildExited)
        assert exited.last_lines == ("the browser is gone; cookie=***",)


@pytest.mark.parametrize(("exit_code", "reason"), [(2, Reason.CONFIG_ERROR), (74, Reason.BROWSER_MISSING)])
async def test_fatal_exits_are_not_restarted(tmp_path: Path, exit_code: int, reason: Reason) -> None:
    async with prepared_fleet(tmp_path) as fleet:
        fleet.plan("a", exit_code=exit_code, say="this is why")
        await fleet.start([fleet.profile("a")])
        status = await fleet.until("a", State.FAILED)
        assert status.reason is reason
        assert fleet.supervisor.child("a").last_lines() == ("this is why",)
        assert len(fleet.notes("a", "starts")) == 1


async def test_a_crash_loop_backs_off_and_then_rests(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, crash_loop_after=4) as fleet:
        fleet.plan("a", exit_code=70)
        await fleet.start([fleet.profile("a"), fleet.profile("b")])
        status = await fleet.until("a", State.RESTING)
        assert status.reason is Reason.CRASH_LOOP
        assert "browser_lost" in str(status.detail)
        assert len(fleet.notes("a", "starts")) == 4
        delays = [e.delay_s for e in fleet.events if isinstance(e, RestartPlanned)]
        assert len(delays) == 4
        assert 540 <= delays.pop() <= 660
        assert all(low <= delay <= 2 * low for low, delay in zip((0.025, 0.05, 0.1), delays, strict=True))
        assert (await fleet.until("b", State.READY)).restarts == 0
        fleet.plan("a")
        fleet.supervisor.reset("a")
        await fleet.until("a", State.READY)


async def test_a_crash_loop_whose_cause_has_gone_ends_by_itself(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, crash_loop_after=2, crash_loop_retry_s=0.5) as fleet:
        fleet.plan("a", exit_code=70)
        await fleet.start([fleet.profile("a")])
        await fleet.until("a", State.RESTING)
        fleet.plan("a")
        await fleet.until("a", State.READY)


# Health


async def test_failing_probes_make_it_unhealthy_and_passing_ones_ready_again(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        await fleet.behave("a", unready="page_broken", detail="the input is not there")
        status = await fleet.until("a", State.UNHEALTHY)
        assert (status.reason, status.detail) == (Reason.PAGE_BROKEN, "the input is not there")
        assert fleet.pool.try_acquire("fake") is None
        await fleet.behave("a", unready=None)
        status = await fleet.until("a", State.READY)
        assert (status.reason, status.restarts) == (None, 0)


@pytest.mark.parametrize(
    ("at_start", "reason"),
    [(True, Reason.SITE_UNREACHABLE), (False, Reason.SITE_UNREACHABLE), (True, Reason.PROXY_REFUSED)],
)
async def test_a_child_whose_site_is_away_is_kept_until_it_is_back(
    tmp_path: Path, *, at_start: bool, reason: Reason
) -> None:
    """No restart helps, and a row of them would end in a rest that lasts longer than the site is away."""
    async with prepared_fleet(tmp_path) as fleet:
        if at_start:
            fleet.plan("a", unready=reason)
        await fleet.start([fleet.profile("a")])
        if not at_start:
            await fleet.until("a", State.READY)
            await fleet.behave("a", unready=reason)
        await eventually(lambda: fleet.status("a").reason is reason)
        assert fleet.pool.try_acquire("fake") is None
        child = fleet.supervisor.child("a")
        limit = child._timer
        assert limit
        await eventually(lambda: child._timer and child._timer.when() > limit.when())
        assert limit.cancelled()
        await fleet.behave("a", unready=None)
        status = await fleet.until("a", State.READY)
        assert (status.reason, status.restarts) == (None, 0)


async def test_a_child_whose_site_was_away_is_restarted_for_anything_else(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, unhealthy_timeout_s=0.3) as fleet:
        await fleet.behave("a", unready="site_unreachable")
        await fleet.until("a", State.UNHEALTHY)
        await fleet.behave("a", unready="page_broken")
        assert (await fleet.until("a", State.BACKOFF)).reason is Reason.UNHEALTHY_TIMEOUT


async def test_a_child_that_hangs_is_unhealthy_then_replaced(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, unhealthy_timeout_s=0.3, term_grace_s=0.3) as fleet:
        os.kill(pid_of(fleet, "a"), signal.SIGSTOP)
        assert (await fleet.until("a", State.UNHEALTHY)).reason is Reason.PROBE_FAILED
        assert (await fleet.until("a", State.BACKOFF)).reason is Reason.UNHEALTHY_TIMEOUT
        await fleet.until_start("a", 2)
        assert (await fleet.until_event(ChildExited)).exit_code == -signal.SIGKILL


async def test_a_probe_answered_by_another_start_fails(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        await fleet.behave("a", instance_id="somebody else")
        assert (await fleet.until("a", State.UNHEALTHY)).reason is Reason.PORT_TAKEN


async def test_another_server_on_the_port_never_makes_a_child_ready(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path) as fleet:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", fleet.ports.slot(0).api_port)
        async with server:
            await fleet.start([fleet.profile("a")])
            assert (await fleet.until("a", State.BACKOFF)).reason is Reason.PORT_TAKEN
        await fleet.until("a", State.READY)


@pytest.mark.parametrize("at_start", [True, False])
async def test_an_expired_login_ends_in_failed_without_restarts(tmp_path: Path, *, at_start: bool) -> None:
    async with prepared_fleet(tmp_path) as fleet:
        if at_start:
            fleet.plan("a", unready="login_expired")
        await fleet.start([fleet.profile("a"), fleet.profile("b")])
        await fleet.until("b", State.READY)
        if not at_start:
            await fleet.until("a", State.READY)
            await fleet.behave("a", unready="login_expired")
        status = await fleet.until("a", State.FAILED)
        assert (status.reason, status.pid) == (Reason.LOGIN_EXPIRED, None)
        assert len(fleet.notes("a", "starts")) == 1
        assert fleet.supervisor.ready
        fleet.plan("a")
        await fleet.supervisor.reconcile([fleet.profile("a", version=2), fleet.profile("b")])
        await fleet.until("a", State.READY)


async def test_a_child_out_of_quota_rests_after_the_running_answer(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        lease = fleet.pool.try_acquire("fake")
        assert lease is not None
        await fleet.behave("a", unready="quota", rest_s=1.0)
        assert (await fleet.until("a", State.DRAINING)).reason is Reason.QUOTA
        lease.release()
        assert (await fleet.until("a", State.RESTING)).reason is Reason.QUOTA
        # The slot is given on in the next turn of the loop.
        await eventually(lambda: fleet.status("a").slot is None, what="the free slot")
        await fleet.until_start("a", 2)


async def test_a_rest_is_capped_and_can_be_ended(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, ["a", "b"], rest_max_s=0.2) as fleet:
        await fleet.behave("a", unready="quota", rest_s=1e9)
        await fleet.until_start("a", 2)
    async with running_fleet(tmp_path) as fleet:
        await fleet.behave("a", unready="quota")
        await fleet.until("a", State.RESTING)
        fleet.supervisor.reset("a")
        await fleet.until_start("a", 2)


async def test_a_child_beyond_its_memory_limit_is_replaced(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, ["a", "b"], memory_limit_bytes=150 << 20) as fleet:
        await fleet.behave("a", hold_mib=200)
        await fleet.until_start("a", 2)
        assert Event.MEMORY_LIMIT in causes(fleet, "a")
        assert Event.MEMORY_LIMIT not in causes(fleet, "b")


# Slots


async def test_a_standby_takes_the_slot_of_a_resting_child(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, max_children=1) as fleet:
        await fleet.start([fleet.profile(name) for name in "ab"])
        await fleet.until("a", State.READY)
        assert fleet.status("b").reason is Reason.WAITING
        await fleet.behave("a", unready="quota", rest_s=60)
        status = await fleet.until("b", State.READY)
        assert status.slot == 0
        assert fleet.is_in("a", State.RESTING)
        fleet.supervisor.reset("a")
        assert fleet.is_in("a", State.STANDBY)
        await fleet.behave("b", exit_code=1)
        await fleet.until_start("b", 2)
        assert fleet.is_in("a", State.STANDBY), "a restart keeps its slot"


async def test_a_restarted_child_keeps_its_slot_while_others_stand_by(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, max_children=1) as fleet:
        await fleet.start([fleet.profile(name) for name in "ab"])
        await fleet.until("a", State.READY)
        fleet.supervisor.restart("a")
        await fleet.until_start("a", 2)
        assert fleet.status("b").generation == 0


async def test_one_login_is_never_in_two_browsers(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path) as fleet:
        await fleet.start([fleet.profile("old", login="ada")])
        await fleet.until("old", State.READY)
        lease = fleet.pool.try_acquire("fake")
        assert lease is not None
        await fleet.supervisor.reconcile([fleet.profile("new", login="ada"), fleet.profile("other")])
        await fleet.until("other", State.READY)
        assert fleet.is_in("new", State.STANDBY)
        lease.release()
        await fleet.until("new", State.READY)


async def test_profiles_without_a_login_are_in_any_number_of_browsers(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path) as fleet:
        await fleet.start([replace(fleet.profile(name), fingerprint=NO_LOGIN) for name in ("one", "other")])
        await fleet.until("one", State.READY)
        await fleet.until("other", State.READY)


# Reload


async def test_a_reload_touches_only_what_changed(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, ["same", "changed", "gone"]) as fleet:
        pids = {name: pid_of(fleet, name) for name in ("same", "changed", "gone")}
        wanted = [fleet.profile("same"), fleet.profile("changed", version=2), fleet.profile("new")]
        done = await fleet.supervisor.reconcile(wanted)
        assert (done.added, done.replaced, done.removed) == (("new",), ("changed",), ("gone",))
        await fleet.until("new", State.READY)
        await fleet.until_start("changed", 2)
        await eventually(lambda: {v.name for v in fleet.supervisor.snapshot()} == {"same", "changed", "new"})
        assert pid_of(fleet, "same") == pids["same"]
        assert not alive(pids["gone"])
        assert not alive(pids["changed"])
        assert fleet.pool.get("gone") is None
        with pytest.raises(UnknownChild, match="gone"):
            fleet.supervisor.child("gone")


async def test_a_changed_profile_waits_for_the_running_answer(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        lease = fleet.pool.try_acquire("fake")
        assert lease is not None
        await fleet.supervisor.reconcile([fleet.profile("a", version=2)])
        assert fleet.status("a").state is State.DRAINING
        assert fleet.pool.try_acquire("fake") is None
        lease.release()
        await fleet.until_start("a", 2)


async def test_an_answer_without_end_is_cut_at_the_drain_limit(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, drain_timeout_s=0.2) as fleet:
        lease = fleet.pool.try_acquire("fake")
        assert lease is not None
        fleet.supervisor.restart("a")
        await fleet.until_start("a", 2)
        assert Event.DRAIN_DEADLINE in causes(fleet, "a")
        lease.release()


async def test_a_profile_that_returns_waits_for_its_old_child_to_end(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        lease = fleet.pool.try_acquire("fake")
        assert lease is not None
        first = pid_of(fleet, "a")
        await fleet.supervisor.reconcile([])
        await fleet.supervisor.reconcile([fleet.profile("a", version=2)])
        assert alive(first)
        lease.release()
        await eventually(lambda: fleet.status("a").pid not in (None, first) and fleet.is_in("a", State.READY))
        assert not alive(first)


async def test_a_profile_removed_again_before_its_return_stays_removed(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        lease = fleet.pool.try_acquire("fake")
        assert lease is not None
        for profiles in ([], [fleet.profile("a", version=2)], []):
            await fleet.supervisor.reconcile(profiles)
        lease.release()
        await eventually(lambda: not fleet.supervisor.snapshot())


# The operator


async def test_an_operators_drain_lasts_until_reset(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, ["a", "b"]) as fleet:
        fleet.supervisor.drain("a")
        status = await fleet.until("a", State.STOPPED)
        assert status.reason is Reason.DRAINED
        await fleet.supervisor.reconcile([fleet.profile("a", version=2), fleet.profile("b")])
        assert fleet.is_in("a", State.STOPPED)
        fleet.supervisor.reset("a")
        await fleet.until_start("a", 2)


async def test_actions_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        with pytest.raises(ActionRefused, match="READY"):
            fleet.supervisor.reset("a")
        with pytest.raises(UnknownChild):
            fleet.supervisor.restart("b")
        fleet.supervisor.begin_drain()
        with pytest.raises(ActionRefused, match="shutting down"):
            fleet.supervisor.restart("a")
        with pytest.raises(ActionRefused, match="shutting down"):
            await fleet.supervisor.reconcile([])


async def test_an_operators_restart_skips_the_backoff(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, backoff_base_s=60.0, backoff_max_s=60.0) as fleet:
        await fleet.behave("a", exit_code=1)
        await fleet.until("a", State.BACKOFF)
        fleet.supervisor.restart("a")
        await fleet.until_start("a", 2)


# The end


async def test_stop_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, ["a", "b"]) as fleet:
        await fleet.behave("a", orphan=True)
        pids = [pid_of(fleet, "a"), pid_of(fleet, "b"), fleet.notes("a", "orphans")[0]["pid"]]
        await fleet.supervisor.drain_and_stop()
        assert not any(alive(pid) for pid in pids)
        assert not fleet.run_root.path.exists()
        exits = [event for event in fleet.events if isinstance(event, ChildExited)]
        assert [(event.exit_code, event.expected) for event in exits] == [(0, True), (0, True)]


async def test_draining_lets_answers_end_and_refuses_the_next(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, ["a", "b"]) as fleet:
        lease = fleet.pool.try_acquire("fake")
        assert lease is not None
        busy, idle = lease.backend.name, "b" if lease.backend.name == "a" else "a"
        fleet.supervisor.begin_drain()
        assert not fleet.supervisor.ready
        assert fleet.pool.try_acquire("fake") is None
        await fleet.until(idle, State.STOPPED)
        assert fleet.is_in(busy, State.DRAINING)
        assert not await fleet.supervisor.wait_drained(0.01)
        lease.release()
        assert await fleet.supervisor.wait_drained(30)
        await fleet.until(busy, State.STOPPED)


async def test_at_a_shutdown_a_busy_child_ends_after_its_streams(tmp_path: Path) -> None:
    """The coordinator ends the streams at the limit; a child at the same limit could be ahead of it."""
    async with running_fleet(tmp_path, drain_timeout_s=0.05) as fleet:
        lease = fleet.pool.try_acquire("fake")
        assert lease is not None
        fleet.supervisor.begin_drain()
        assert not await fleet.supervisor.wait_drained(0.5)
        assert fleet.is_in("a", State.DRAINING)
        await fleet.supervisor.stop()
        assert Event.DRAIN_DEADLINE in causes(fleet, "a")
        lease.release()


async def test_a_child_that_ignores_term_is_killed(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, term_grace_s=0.2) as fleet:
        pid = pid_of(fleet, "a")
        await fleet.behave("a", ignore_term=True)
        await fleet.supervisor.stop()
        assert not alive(pid)
        assert (await fleet.until_event(ChildExited)).exit_code == -signal.SIGKILL


async def test_stopping_while_children_start(tmp_path: Path) -> None:
    async with prepared_fleet(tmp_path, parallel_starts=2) as fleet:
        await fleet.start([fleet.profile(name) for name in "abcd"])
        await eventually(lambda: any(isinstance(event, ChildStarted) for event in fleet.events))
        await fleet.supervisor.stop()
        assert {status.state for status in fleet.supervisor.snapshot()} == {State.STOPPED}
        assert not fleet.launcher.own_pids
        assert not fleet.run_root.path.exists()


async def test_a_failed_supervision_task_fails_the_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_fleet(tmp_path) as fleet:
        failed = fleet.supervisor.failed

        async def breaks(*_: object) -> None:
            raise RuntimeError("a mistake of ours")

        monkeypatch.setattr(ReadyProbe, "probe", breaks)
        with pytest.raises(Exception, match="Supervision broke in probe a"):
            await asyncio.wait_for(asyncio.shield(failed), 30)
        fleet.supervisor._tasks.failed = asyncio.get_running_loop().create_future()

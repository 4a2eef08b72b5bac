"""What an operator sees and does: a crash loop, rests and standbys, orders by name, an end within its time."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from coordinator.main import LAST_EVENTS_S
from coordinator.supervision.policy import Policy
from tests.coordinator.fleet import alive
from tests.coordinator.program import KEY, Running, coordinator, stream_from, write_profile
from tests.coordinator.proxy.proxied import Caller, chat, request
from tests.support.json_lines import json_lines
from tests.support.waiting import eventually

STOP_GRACE_S = 45.0  # what image, Compose file and manifests give


def prepare(tmp_path: Path, **children: Mapping[str, Any]) -> None:
    """Profiles, and how their children behave from the start."""
    (tmp_path / "evidence").mkdir(exist_ok=True)
    for name, behaviour in children.items():
        write_profile(tmp_path / "active", name)
        (tmp_path / f"evidence/{name}.json").write_text(json.dumps(behaviour))


async def order(running: Running, name: str, action: str) -> int:
    return (await running.http.post(f"/admin/children/{name}/{action}", headers=KEY)).status_code


async def test_a_crash_loop_rests_with_its_reason_and_last_lines(tmp_path: Path) -> None:
    prepare(tmp_path, ada={"exit_code": 1, "say": "no such thing; session=0123456789abcdef"}, grace={})
    async with coordinator(tmp_path, BACKOFF_MAX_S="0.1") as running:
        shown = await running.until("ada", "RESTING")
        assert shown["reason"] == "crash_loop"
        starts = Policy().crash_loop_after
        assert len([event for event in running.events("child_started") if event["child"] == "ada"]) == starts
        assert (await running.metrics()).sum("tabfleet_child_restarts_total", cause="crashed") == starts - 1

        assert (await running.http.get("/admin/children/ada")).status_code == 401
        known = (await running.http.get("/admin/children/ada", headers=KEY)).json()
        assert (known["reason"], known["pid"], known["generation"]) == ("crash_loop", None, starts)
        cause = f"{starts} short lives in a row, the last ended by: crashed"
        assert known["detail"] == f"{cause}; tried again about every 600 s"
        assert known["last_lines"] == ["no such thing; session=***"]
        assert running.events("child_exited")[-1]["last_lines"] == ["no such thing; session=***"]
        assert (await running.http.get("/admin/children/nobody", headers=KEY)).status_code == 404

        await running.until("grace", "READY")
        assert (await running.ready())[0] == 200
        prepare(tmp_path, ada={})
        assert await order(running, "ada", "reset") == 202
        await running.until("ada", "READY")


async def test_a_standby_takes_over_and_admin_actions_work(tmp_path: Path) -> None:
    prepare(tmp_path, ada={}, grace={})
    async with coordinator(tmp_path, MAX_CHILDREN="1", PROBE_INTERVAL_S="0.1") as running:
        await running.until("ada", "READY")
        assert (await running.child("grace"))["reason"] == "waiting_for_slot"
        assert (await running.ready())[1]["unhealthy"] == []

        await running.behave("ada", unready="quota", rest_s=1e9)
        await running.until("grace", "READY")
        assert (await running.child("ada"))["state"] == "RESTING"
        assert await order(running, "ada", "reset") == 202
        assert (await running.child("ada"))["state"] == "STANDBY"
        assert await order(running, "ada", "reset") == 409

        pid = running.events("child_started")[-1]["pid"]
        assert await order(running, "grace", "restart") == 202
        await eventually(lambda: running.events("child_ready")[2:])
        assert running.events("child_started")[-1]["child"] == "grace", "a restart keeps its slot"
        assert not alive(pid)

        assert await order(running, "grace", "drain") == 202
        assert (await running.until("grace", "STOPPED"))["reason"] == "drained"
        await running.until("ada", "READY")
        causes = (await running.metrics()).labels("tabfleet_child_restarts_total")
        assert causes == {"quota": 1, "restart": 1}


async def test_a_stalled_child_delays_nobody_else(tmp_path: Path) -> None:
    prepare(tmp_path, ada={}, grace={})
    async with coordinator(tmp_path) as running:
        await running.until_ready("ada", "grace")
        stalled = await Caller.connect(running.port)
        stalled.writer.write(request(chat("stalls", stream=True, fake={"stall_after": 1})))
        await stalled.head()
        asking = [
            running.http.post("/v1/chat/completions", json=json.loads(chat(f"{number}")), headers=KEY)
            for number in range(10)
        ]
        answers = await asyncio.wait_for(asyncio.gather(*asking), 60)
        assert [answer.status_code for answer in answers] == [200] * 10
        (holder,) = [child for child in (await running.ready())[1]["children"] if child["in_flight"]]
        (busy,) = [note for note in notes(running, holder["name"]) if "token" in note]
        stalled.reset()
        await eventually(lambda: notes(running, holder["name"])[-1].get("stopped"))
        assert notes(running, holder["name"])[-1]["token"] == busy["token"]


def notes(running: Running, name: str) -> list[dict[str, Any]]:
    """The ledger of a child."""
    return json_lines(running.evidence / f"{name}.ledger")


@pytest.mark.slow  # ten seconds of waiting for limits; test_main.py and those below end programs sooner
async def test_the_slowest_shutdown_stays_within_its_limits(tmp_path: Path) -> None:
    """A child that ignores TERM, a client that reads nothing, an answer without end: the limits add up, and hold."""
    drain_s = 1.0
    endless_answer = {"tokens": 1_000_000, "token_s": 0.01}
    prepare(tmp_path, ada={"ignore_term": True, **endless_answer}, grace={"orphan": True, **endless_answer})
    async with coordinator(tmp_path, DRAIN_TIMEOUT_S=f"{drain_s:g}") as running:
        await running.until_ready("ada", "grace")
        flood = {"tokens": 400, "piece_bytes": 1 << 16, "token_s": 0}
        deaf = await Caller.connect(running.port)
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        deaf.writer.write(request(chat("deaf", stream=True, fake=flood)))
        endless = await stream_from(running, "endless")
        pids = [event["pid"] for event in running.events("child_started")]
        began = asyncio.get_running_loop().time()
        assert await running.end(signal.SIGTERM) == 0
        took_s = asyncio.get_running_loop().time() - began
        told = b"".join([chunk async for chunk in endless.chunks()])
        assert json.loads(told.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]["code"] == "shutdown"
        assert not [pid for pid in pids if alive(pid)]
        deaf.close()
    defaults = Policy()
    after_the_drain_s = LAST_EVENTS_S + defaults.term_grace_s + defaults.reap_timeout_s
    assert defaults.drain_timeout_s + after_the_drain_s < STOP_GRACE_S
    assert drain_s <= took_s < drain_s + STOP_GRACE_S - defaults.drain_timeout_s
    assert running.events("drain_cut_short")
    assert not [line for line in running.log.read_text().splitlines() if "ASGI" in line]
    assert list((tmp_path / "tmp").iterdir()) == []

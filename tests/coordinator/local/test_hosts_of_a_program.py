"""The whole coordinator with several logins in a browser: what it shows, what it logs, and what it keeps to itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.coordinator.fleet import alive
from tests.coordinator.program import KEY, Running, coordinator, write_profile
from tests.coordinator.proxy.proxied import Caller, chat, request
from tests.support.json_lines import json_lines
from tests.support.waiting import eventually

NAMES = ("ada", "bob", "host-1", "kim", "zoe")
SHARED = {"LOGINS_PER_BROWSER": "4", "LOG_FORMAT": "json", "LOG_LEVEL": "debug", "BACKOFF_MAX_S": "0.5"}


async def pids(running: Running) -> dict[str, int]:
    answers = [await running.http.get(f"/admin/children/{name}", headers=KEY) for name in NAMES]
    return {name: answer.json()["pid"] for name, answer in zip(NAMES, answers, strict=True)}


async def until_back(running: Running, *names: str) -> None:
    """Wait until these have lost their processes, and all are READY."""
    await eventually(lambda: all(("BACKOFF", "killed") in running.moves(name) for name in names))
    await running.until_ready(*NAMES)


@pytest.mark.slow  # test_hosts.py shows it of a supervisor
async def test_five_logins_in_two_browsers_serve_and_survive_the_death_of_one(tmp_path: Path) -> None:
    for name in NAMES:
        write_profile(tmp_path / "active", name)
    async with coordinator(tmp_path, **SHARED) as running:
        await running.until_ready(*NAMES)
        before = await pids(running)
        assert len(set(before.values())) == 2
        hosts = json_lines(running.evidence / "hosts.starts")
        assert {host["pid"] for host in hosts} == set(before.values())
        assert [event["host"] for event in running.events("host_started")] == ["@host-1", "@host-2"]

        caller = await Caller.connect(running.port)
        assert (await caller.ask(request(chat("hello")))).status == 200

        full = max(before.values(), key=list(before.values()).count)
        os.kill(full, signal.SIGKILL)
        await until_back(running, *(name for name, pid in before.items() if pid == full))
        after = await pids(running)
        assert full not in after.values()
        assert (await caller.ask(request(chat("hello again")))).status == 200
        (ended,) = running.events("host_ended")
        assert (ended["pid"], ended["exit_code"], ended["lost"]) == (full, -signal.SIGKILL, 4)

        assert await running.end() == 0
        assert not any(alive(pid) for pid in {*before.values(), *after.values()})
        assert not list((tmp_path / "tmp").glob("tabfleet-run-*"))


async def test_no_control_token_of_a_child_in_a_host_is_in_any_output(tmp_path: Path) -> None:
    for name in NAMES:
        write_profile(tmp_path / "active", name)
    async with coordinator(tmp_path, **SHARED) as running:
        await running.until_ready(*NAMES)
        os.kill((await pids(running))["ada"], signal.SIGKILL)
        await until_back(running, "ada")
        tokens = [start["token"] for name in NAMES for start in json_lines(running.evidence / f"{name}.starts")]
        assert len(tokens) > len(NAMES)
        assert all(tokens)
        shown = [
            (await running.http.get(path, headers=KEY)).text
            for path in ("/ready", "/health", "/metrics", *(f"/admin/children/{name}" for name in NAMES))
        ]
        for pid in {running.process.pid, *(await pids(running)).values()}:
            shown += [Path(f"/proc/{pid}/{name}").read_text() for name in ("environ", "cmdline")]
        kept = [path.read_text() for path in (tmp_path / "tmp").rglob("*") if path.is_file()]
        assert await running.end() == 0
        everything = "\n".join([*shown, *kept, running.log.read_text()])
        assert "@host-1" in everything
        assert not [token for token in tokens if token in everything]


async def test_a_host_logs_beside_its_children_under_a_name_that_no_login_has(tmp_path: Path) -> None:
    for name in NAMES:
        write_profile(tmp_path / "active", name)
    (tmp_path / "logs").mkdir()
    async with coordinator(tmp_path, LOG_DIR=str(tmp_path / "logs"), **SHARED) as running:
        await running.until_ready(*NAMES)
        for name in NAMES:
            await running.behave(name, say=f"this is {name}")
        logs = sorted(path.name for path in (tmp_path / "logs").iterdir())
        assert logs == sorted([*(f"{name}.log" for name in NAMES), "@host-1.log", "@host-2.log"])
        for name in NAMES:
            path = tmp_path / "logs" / f"{name}.log"
            assert await eventually(path.read_text) == f"this is {name}\n"


@pytest.mark.slow  # test_spares.py shows most of it of a supervisor, test_coordinator_death.py their end
async def test_spare_browsers_are_told_of_and_end_with_the_program(tmp_path: Path) -> None:
    for name in NAMES:
        write_profile(tmp_path / "active", name)
    more = {**SHARED, "LOGINS_PER_BROWSER": "1", "SPARE_BROWSERS": "1", "LOG_DIR": str(tmp_path / "logs")}
    async with coordinator(tmp_path, MAX_CHILDREN="5", **more) as running:
        await running.until_ready(*NAMES)
        await until_spares(running, 1)
        first = running.events("spare_browser_ready")[0]["host"]
        os.kill((await pids(running))["ada"], signal.SIGKILL)
        await until_back(running, "ada")
        (taken,) = running.events("spare_browser_taken")
        assert (taken["host"], taken["child"]) == (first, "ada")
        await until_spares(running, 1)
        (tmp_path / "evidence" / "hosts.json").write_text('{"exit_code": 72}')
        (spare,) = {host["pid"] for host in json_lines(running.evidence / "hosts.starts") if alive(host["pid"])} - set(
            (await pids(running)).values()
        )
        os.kill(spare, signal.SIGKILL)

        async def warned() -> bool:
            return any("No spare browser can be had" in line for line in (await running.ready())[1]["warnings"])

        async with asyncio.timeout(60):
            while not await warned():  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.02)
        assert (await running.ready())[1]["spare_browsers"] == 0
        seen = await running.metrics()
        assert seen.sum("tabfleet_spare_browsers") == 0
        assert seen.sum("tabfleet_spare_browsers_taken_total") == 1
        assert seen.sum("tabfleet_spare_browser_failures_total") >= 2
        assert {name for name, _ in running.moves("kim")} == {"STARTING", "READY"}
        assert await running.end() == 0
        hosts = [host["pid"] for host in json_lines(running.evidence / "hosts.starts")]
        assert not any(map(alive, hosts))
        assert not list((tmp_path / "tmp").glob("tabfleet-run-*"))


async def until_spares(running: Running, count: int) -> None:
    async with asyncio.timeout(60):
        while (await running.ready())[1]["spare_browsers"] != count:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)


async def test_without_spare_browsers_ready_and_metrics_are_silent_of_them(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    async with coordinator(tmp_path) as running:
        await running.until_ready("ada")
        assert "spare" not in json.dumps((await running.ready())[1])
        assert "spare" not in (await running.http.get("/metrics", headers=KEY)).text
        assert not (running.evidence / "hosts.starts").exists()

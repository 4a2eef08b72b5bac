"""Nothing outlives its parent: the coordinator is killed, or told to end, from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.local.run_root import RunRoot
from tests.coordinator.fleet import alive
from tests.support.json_lines import json_lines
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Coordinator:
    process: asyncio.subprocess.Process
    pids: dict[str, int]
    run_root: Path


@contextlib.asynccontextmanager
async def coordinator(
    folder: Path, *names: str, logins_per_browser: int = 1, spare_browsers: int = 0
) -> AsyncIterator[Coordinator]:
    module = "tests.coordinator.small_coordinator"
    program = (sys.executable, "-m", module, str(folder), str(logins_per_browser), str(spare_browsers), *names)
    process = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        while not (line := await process.stdout.readline()).startswith(b"{"):  # its log, which has no objects
            assert line
        said = json.loads(line)
        yield Coordinator(process, said["pids"], Path(said["run_root"]))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def noted(folder: Path, name: str, kind: str) -> int:
    pid = json_lines(folder / f"{name}.{kind}")[0]["pid"]
    assert isinstance(pid, int)
    return pid


both = pytest.mark.parametrize("logins_per_browser", [1, 4])


@both
async def test_children_and_browsers_die_with_a_killed_coordinator(tmp_path: Path, logins_per_browser: int) -> None:
    for name in "ab":
        (tmp_path / f"{name}.json").write_text('{"browser": true}')
    async with coordinator(tmp_path, "a", "b", logins_per_browser=logins_per_browser) as running:
        assert len(set(running.pids.values())) == (2 if logins_per_browser == 1 else 1)
        pids = [*running.pids.values(), *(noted(tmp_path, name, "browsers") for name in "ab")]
        assert all(alive(pid) for pid in pids)
        os.kill(running.process.pid, signal.SIGKILL)
        await eventually(lambda: not any(alive(pid) for pid in pids))


@both
async def test_a_child_under_sigstop_dies_with_a_killed_coordinator(tmp_path: Path, logins_per_browser: int) -> None:
    async with coordinator(tmp_path, "a", logins_per_browser=logins_per_browser) as running:
        os.kill(running.pids["a"], signal.SIGSTOP)
        os.kill(running.process.pid, signal.SIGKILL)
        await eventually(lambda: not alive(running.pids["a"]))


@both
async def test_the_next_coordinator_cleans_up_after_a_killed_one(tmp_path: Path, logins_per_browser: int) -> None:
    (tmp_path / "a.json").write_text('{"orphan": true}')
    async with coordinator(tmp_path, "a", "b", logins_per_browser=logins_per_browser) as killed:
        orphan = noted(tmp_path, "a", "orphans")
        os.kill(killed.process.pid, signal.SIGKILL)
        await killed.process.wait()  # children may be gone a moment before the lock is
        await eventually(lambda: not alive(killed.pids["a"]))
        assert alive(orphan)
        assert killed.run_root.exists()
        RunRoot(tmp_path).remove()
        assert not killed.run_root.exists()
        await eventually(lambda: not alive(orphan))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_spare_browsers_die_with_their_coordinator(tmp_path: Path, number: signal.Signals) -> None:
    async with coordinator(tmp_path, "a", spare_browsers=2) as ended:
        hosts = [json.loads(line)["pid"] for line in (tmp_path / "hosts.starts").read_text().splitlines()]
        spares = set(hosts) - {ended.pids["a"]}
        assert len(spares) == 2
        assert all(map(alive, spares))
        os.kill(ended.process.pid, number)
        await ended.process.wait()
        await eventually(lambda: not any(map(alive, spares)))
        if number == signal.SIGKILL:
            assert len(list((ended.run_root / "hosts").iterdir())) == 3
            RunRoot(tmp_path).remove()
        assert not ended.run_root.exists()


async def test_the_run_root_of_a_running_coordinator_is_not_swept(tmp_path: Path) -> None:
    async with coordinator(tmp_path, "a") as running:
        RunRoot(tmp_path).remove()
        assert running.run_root.exists()
        assert alive(running.pids["a"])


@both
async def test_an_orderly_stop_leaves_nothing(tmp_path: Path, logins_per_browser: int) -> None:
    (tmp_path / "a.json").write_text('{"browser": true}')
    async with coordinator(tmp_path, "a", "b", logins_per_browser=logins_per_browser) as running:
        running.process.terminate()
        assert await running.process.wait() == 0
        assert not alive(running.pids["a"])
        assert not alive(noted(tmp_path, "a", "browsers"))
        assert not running.run_root.exists()


async def test_a_child_whose_parent_is_gone_already_does_not_start(tmp_path: Path) -> None:
    arguments = ("--server-port", "1", "--stream-port", "1", "--active-auth-json", "a.json")
    program = (sys.executable, "-m", "tests.coordinator.fake_child", *arguments)
    environment = {**os.environ, "TABFLEET_PARENT_PID": "1"}
    process = await asyncio.create_subprocess_exec(*program, env=environment)
    assert await process.wait() == 75

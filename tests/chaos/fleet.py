"""Run the coordinator as a process and use its HTTP routes as an operator does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from tests.chaos import proc
from tests.chaos.clients import KEY
from tests.support import DIES_WITH_PARENT
from tests.support.json_lines import whole_lines
from tests.support.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 90.0  # some hundred milliseconds on an idle machine; several fleets start at a time
END_LIMIT_S = 45.0  # the stop grace period of the image and the manifests
T = TypeVar("T")

LIMITS = {
    "MAX_QUEUE": "16",
    "QUEUE_TIMEOUT_S": "5",
    "FIRST_TOKEN_TIMEOUT_S": "2",
    "STREAM_IDLE_TIMEOUT_S": "1.5",
    "PROBE_INTERVAL_S": "0.2",
    "UNHEALTHY_TIMEOUT_S": "3",
    "BACKOFF_MAX_S": "1",
    "DRAIN_TIMEOUT_S": "5",
}


class ChaosFailed(Exception):
    """The run cannot continue; the message says what did not happen."""


@dataclass
class Fleet:
    """A running coordinator."""

    process: asyncio.subprocess.Process
    port: int
    child_ports: range
    folder: Path
    tmp: Path  # its TMPDIR
    http: aiohttp.ClientSession

    @property
    def pid(self) -> int:
        """Return the coordinator's pid."""
        return self.process.pid

    @property
    def log(self) -> Path:
        """Return the path of the coordinator's log."""
        return self.folder / "coordinator.log"

    async def ready(self) -> tuple[int, dict[str, Any]]:
        """Return status and body of `/ready`."""
        async with self.http.get("/ready") as answer:
            return answer.status, await answer.json()

    async def children(self) -> dict[str, dict[str, Any]]:
        """Return the children of `/ready` by name."""
        return {child["name"]: child for child in (await self.ready())[1]["children"]}

    async def metrics(self) -> Metrics:
        """Return the parsed `/metrics`."""
        async with self.http.get("/metrics") as answer:
            return Metrics.parse(await answer.text())

    async def post(self, path: str) -> int:
        """Send an admin request and return its status."""
        async with self.http.post(path) as answer:
            await answer.read()
            return answer.status

    async def reset(self, name: str) -> None:
        """Reset a child; 404 and 409 are accepted, because it may have changed or gone meanwhile."""
        status = await self.post(f"/admin/children/{name}/reset")
        assert status in (202, 404, 409), status

    def moves(self, child: str) -> list[tuple[str, str | None]]:
        """Return the child's states since its first, as the log has them: each with its reason."""
        lines = [line for line in whole_lines(self.log) if '"child_state"' in line]
        return [(event["new"], event.get("reason")) for event in map(json.loads, lines) if event["child"] == child]

    def tracebacks(self) -> list[str]:
        """Return the log events that have a traceback, except the output of children."""
        lines = [line for line in whole_lines(self.log) if "Traceback" in line]
        events = [json.loads(line)["event"] if line.startswith("{") else line for line in lines]
        return [event for event in events if event != "child_output"]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the coordinator if it still runs."""
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def pid_of(self, child: str) -> int | None:
        """Return the pid of a child's process, which others may share, or None if it does not run."""
        async with self.http.get(f"/admin/children/{child}") as answer:
            pid = (await answer.json()).get("pid")
        # What is shown may have ended a moment ago, and its number be another's.
        return pid if pid in proc.children(self.pid) else None

    async def child_pids(self) -> set[int]:
        """Return the pids of the children's processes, as the coordinator knows them."""
        return {pid for name in await self.children() if (pid := await self.pid_of(name))}

    async def end(self) -> float:
        """Send SIGTERM and return the seconds until exit. Raise ChaosFailed unless it exits with 0 in time."""
        began = time.monotonic()
        self.send(signal.SIGTERM)
        try:
            code = await asyncio.wait_for(self.process.wait(), END_LIMIT_S)
        except TimeoutError:
            raise ChaosFailed(f"the coordinator did not end within {END_LIMIT_S:g} s") from None
        if code:
            raise ChaosFailed(f"the coordinator ended with exit code {code}; see {self.log}")
        return time.monotonic() - began


async def wait_until(look: Callable[[], Any], what: str, *, timeout_s: float) -> Any:
    """Poll `look` until it returns something true, and return that. Raise ChaosFailed after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while not (seen := await look()):
        if time.monotonic() > deadline:
            raise ChaosFailed(f"waited {timeout_s:g} s in vain for {what}")
        await asyncio.sleep(0.05)
    return seen


@contextlib.asynccontextmanager
async def running(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    port: int,
    child_ports: range,
    *,
    wrapper: Sequence[str] = (),
) -> AsyncIterator[Fleet]:
    """Run a coordinator with the API key KEY while the context lasts; kill it at the end if it still runs.

    `wrapper` is put before its command, and must become it by exec.
    """
    tmp = tempfile.mkdtemp(prefix="ch-", dir="/tmp")  # short: with a long TMPDIR, the coordinator uses another folder
    (folder / "key.txt").write_text(f"{KEY} role=operate\n")
    given = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": tmp,
        "AUTH_KEY_FILE_PATH": str(folder / "key.txt"),
        "COORDINATOR_PORT": str(port),
        "BASE_API_PORT": str(child_ports.start),
        "BASE_STREAM_PORT": str(child_ports.stop),
        "BROWSER_ENGINE": "chromium",
        "CHAT_SITE": "demo",
        "LOG_FORMAT": "json",
        **LIMITS,
        **environment,
    }
    with (folder / "coordinator.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *wrapper, *DIES_WITH_PARENT, sys.executable, *command, cwd=ROOT, env=given, stdout=log, stderr=log
        )
    try:
        # No kept-alive connections: the coordinator's descriptors are counted.
        session = aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            connector=aiohttp.TCPConnector(force_close=True),
            headers={"authorization": f"Bearer {KEY}"},
            timeout=aiohttp.ClientTimeout(total=20),
        )
        async with session as http:
            fleet = Fleet(process, port, child_ports, folder, Path(tmp), http)
            await wait_until(lambda: _live(fleet), "the coordinator's /live", timeout_s=START_LIMIT_S)
            yield fleet
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        shutil.rmtree(tmp, ignore_errors=True)


async def _live(fleet: Fleet) -> bool:
    if fleet.process.returncode is not None:
        raise ChaosFailed(f"the coordinator exited during its start:\n{fleet.log.read_text()[-2000:]}")
    try:
        async with fleet.http.get("/live") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False

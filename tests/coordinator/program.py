"""The coordinator as a process over fake children: started, looked at, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.coordinator.proxy.proxied import Caller, chat, request
from tests.support import DIES_WITH_PARENT
from tests.support.json_lines import json_lines
from tests.support.metrics import Metrics
from tests.support.ports import free_range

ROOT = Path(__file__).resolve().parents[2]
KEY = {"authorization": "Bearer test-key"}
LOOK_AGAIN_S = 0.05
"""Between two requests that see whether it is so: a process that starts has other things to do."""


def write_profile(folder: Path, name: str, secret: str | None = None) -> None:
    cookie = {"name": "sid", "value": secret or f"secret-of-{name}", "domain": "127.0.0.1", "path": "/"}
    more = {"expires": -1, "httpOnly": True, "secure": False, "sameSite": "Lax"}
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"cookies": [{**cookie, **more}], "origins": []}))


def environment(tmp_path: Path, **given: str) -> dict[str, str]:
    """Everything that a coordinator needs here; what is given comes on top, "" takes out."""
    base = free_range(20)
    (tmp_path / "key.txt").write_text("test-key role=operate\n")
    (tmp_path / "tmp").mkdir(exist_ok=True)
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    usual = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path / "tmp"),
        "LOCAL_PROFILE_DIR": str(tmp_path / "active"),
        "AUTH_KEY_FILE_PATH": str(tmp_path / "key.txt"),
        "CHAT_SITE": "demo",
        "BROWSER_ENGINE": "chromium",
        "BROWSER_EXECUTABLE": str(browser),
        "COORDINATOR_PORT": "0",
        "BASE_API_PORT": str(base),
        "BASE_STREAM_PORT": str(base + 10),
    }
    return {name: value for name, value in {**usual, **given}.items() if value}


@dataclass
class Running:
    """A coordinator process, its log, and a client for it."""

    process: asyncio.subprocess.Process
    log: Path
    evidence: Path
    http: httpx.AsyncClient

    def events(self, name: str = "") -> list[dict[str, Any]]:
        return [event for event in json_lines(self.log) if name in ("", event["event"])]

    @property
    def port(self) -> int:
        return self.http.base_url.port or 0

    async def ready(self) -> tuple[int, dict[str, Any]]:
        answer = await self.http.get("/ready")
        return answer.status_code, answer.json()

    async def until_ready(self, *names: str) -> None:
        async def seen() -> bool:
            _, body = await self.ready()
            return {child["name"] for child in body["children"] if child["state"] == "READY"} == set(names)

        async with asyncio.timeout(60):
            while not await seen():  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(LOOK_AGAIN_S)

    async def child(self, name: str) -> dict[str, Any]:
        """One child of `/ready`; before profiles are fetched there is none, and its state is ABSENT."""
        listed = (await self.ready())[1]["children"]
        return next((child for child in listed if child["name"] == name), {"name": name, "state": "ABSENT"})

    async def until(self, name: str, state: str, *, timeout_s: float = 60) -> dict[str, Any]:
        """Wait until the child is in that state; return it as `/ready` shows it."""
        try:
            async with asyncio.timeout(timeout_s):
                while (child := await self.child(name))["state"] != state:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(LOOK_AGAIN_S)
        except TimeoutError:
            raise AssertionError(f"{name} is not {state}: {child}; {self.log.read_text()[-3000:]}") from None
        return child

    async def until_warned(self, *warnings: str) -> None:
        """Wait until these are the warnings of `/ready`."""
        async with asyncio.timeout(60):
            while (await self.ready())[1]["warnings"] != list(warnings):  # noqa: ASYNC110 - as above
                await asyncio.sleep(LOOK_AGAIN_S)

    async def behave(self, name: str, **change: Any) -> None:
        """Change a running child; one that dies of it cannot answer."""
        url = next(event["url"] for event in reversed(self.events("child_started")) if event["child"] == name)
        with contextlib.suppress(httpx.TransportError):
            assert (await self.http.post(f"{url}/fake", json=change)).status_code == 200

    async def metrics(self) -> Metrics:
        return Metrics.parse((await self.http.get("/metrics", headers=KEY)).text)

    def moves(self, name: str) -> list[tuple[str, str | None]]:
        """The child's states with their reasons, as the log tells them."""
        return [(event["new"], event.get("reason")) for event in self.events("child_state") if event["child"] == name]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 60)


@contextlib.asynccontextmanager
async def coordinator(
    tmp_path: Path, flags: Sequence[str] = (), *, program: str = "tests.coordinator.run_with_fakes", **given: str
) -> AsyncIterator[Running]:
    """A coordinator over fake children on a port of its own; killed if the test leaves it running.

    `program` is the module that runs it; it gets a folder for evidence, then the flags.
    """
    port = free_range(1)
    log, evidence = tmp_path / "log", tmp_path / "evidence"
    evidence.mkdir(exist_ok=True)
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *DIES_WITH_PARENT,
            *(sys.executable, "-m", program, str(evidence), *flags),
            env=environment(tmp_path, **{"COORDINATOR_PORT": str(port), **given}),
            cwd=tmp_path,
            stderr=stderr,
        )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=False) as http:
        running = Running(process, log, evidence, http)
        try:
            await until_live(running)
            yield running
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def until_live(running: Running) -> None:
    """Wait until its port answers."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.TransportError):
                assert (await running.http.get("/live")).status_code == 200
                return
            assert running.process.returncode is None, running.log.read_text()
            await asyncio.sleep(LOOK_AGAIN_S)


async def stream_from(running: Running, prompt: str) -> Caller:
    caller = await Caller.connect(running.port)
    caller.writer.write(request(chat(prompt, stream=True)))
    status, _ = await caller.head()
    assert status == 200
    return caller

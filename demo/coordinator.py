"""Run the coordinator as a child process of the demo and query it over HTTP."""

from __future__ import annotations

import json
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from demo.errors import CoordinatorEnded, DemoError
from demo.ports import Ports
from demo.processes import run_module

KEY = "demo-key"
DRAIN_S = 5.0
END_S = 20.0
_LOG_LINES = 15


@dataclass(frozen=True)
class Coordinator:
    """A running coordinator and the file its log is written to."""

    url: str
    process: Process
    log: Path
    http: aiohttp.ClientSession

    async def ready(self) -> dict[str, Any] | None:
        """Return the body of `/ready`, or None before the port answers. Raise CoordinatorEnded if it exited."""
        if self.process.returncode is not None:
            raise self.ended()
        try:
            async with self.http.get(f"{self.url}/ready") as response:
                body = await response.json()
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError):
            return None
        return body if isinstance(body, dict) else None

    async def ask(self, model: str, prompt: str) -> str:
        """Send one prompt through the API and return the answer. Raise DemoError for an error response."""
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        headers = {"Authorization": f"Bearer {KEY}"}
        timeout = aiohttp.ClientTimeout(total=60)
        url = f"{self.url}/v1/chat/completions"
        async with self.http.post(url, json=body, headers=headers, timeout=timeout) as response:
            data = await response.json()
            if response.status != 200:
                raise DemoError(f"the API answered {response.status}: {data['error']['message']}")
        return str(data["choices"][0]["message"]["content"])

    async def wait(self) -> None:
        """Wait until the coordinator exits by itself, then raise CoordinatorEnded."""
        await self.process.wait()
        raise self.ended()

    def ended(self) -> CoordinatorEnded:
        """Return the error that reports the exit code and the end of the log."""
        return CoordinatorEnded(f"the coordinator ended with code {self.process.returncode}", self.log_end())

    def log_end(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])


@asynccontextmanager
async def run_coordinator(folder: Path, ports: Ports, environment: Mapping[str, str]) -> AsyncIterator[Coordinator]:
    """Run the coordinator while the context lasts.

    Its log, its key file and all temporary files, also those of its children, are written to `folder`.
    """
    (folder / "key.txt").write_text(f"{KEY} role=operate\n", encoding="utf-8")
    log = folder / "coordinator.log"
    environment = {
        **environment,
        "PROFILE_BACKEND": "local",
        "AUTH_KEY_FILE_PATH": str(folder / "key.txt"),
        "COORDINATOR_HOST": "127.0.0.1",
        "COORDINATOR_PORT": str(ports.coordinator),
        "BASE_API_PORT": str(ports.api),
        "BASE_STREAM_PORT": str(ports.stream),
        "PORT_STEP": "1",
        "DRAIN_TIMEOUT_S": str(DRAIN_S),
        "TMPDIR": str(folder),
    }
    with log.open("wb") as output:
        program = run_module("coordinator.main", end_s=END_S, output=output, environment=environment)
        async with program as process, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as http:
            yield Coordinator(f"http://127.0.0.1:{ports.coordinator}", process, log, http)

"""The Chainlit app of these tests as a process: started, logged in to, ended."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.support.ports import free_range

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".cache" / "chainlit"
START_TIMEOUT_S = 60.0
NOWHERE = "http://127.0.0.1:9"  # a proxy that is not there: the app's page loads fonts from far away


@dataclass(frozen=True)
class ChainlitServer:
    url: str
    ledger: Path

    def entries(self) -> list[dict[str, Any]]:
        """What the app received and answered, in order."""
        with suppress(FileNotFoundError):
            return [json.loads(line) for line in self.ledger.read_text().splitlines()]
        return []

    async def log_in(self, username: str = "ada", password: str = "lovelace") -> dict[str, Any]:
        """Log in as the app's own page does and return a storage_state."""
        form = {"username": username, "password": password}
        async with aiohttp.ClientSession() as session, session.post(f"{self.url}/login", data=form) as response:
            response.raise_for_status()
            cookie = response.cookies["access_token"]
        return {
            "cookies": [
                {
                    "name": cookie.key,
                    "value": cookie.value,
                    "domain": urlsplit(self.url).hostname,
                    "path": "/",
                    "expires": -1,
                    "httpOnly": True,
                    "secure": False,
                    "sameSite": "Lax",
                }
            ],
            "origins": [],
        }


@asynccontextmanager
async def chainlit_server(folder: Path) -> AsyncIterator[ChainlitServer]:
    """Run the app on a free port of loopback, its files in `folder`, without telemetry."""
    subprocess.run([ROOT / "scripts" / "app-env", "chainlit"], check=True)  # noqa: ASYNC221 - before anything runs here
    port = free_range(1)
    server = ChainlitServer(f"http://127.0.0.1:{port}", folder / "ledger.jsonl")
    process = await asyncio.create_subprocess_exec(
        ENVIRONMENT / "bin" / "chainlit",
        "run",
        str(Path(__file__).with_name("chainlit_app.py")),
        "--headless",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        env=_environment(folder, server.ledger),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=(folder / "chainlit.log").open("wb"),
        start_new_session=True,
    )
    try:
        await _wait_until_up(server, process)
        yield server
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _environment(folder: Path, ledger: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CHAINLIT_APP_ROOT": str(folder),
        "CHAINLIT_AUTH_SECRET": secrets.token_urlsafe(32),
        "CHAINLIT_LEDGER": str(ledger),
        "LITERAL_DISABLED": "true",
        "DO_NOT_TRACK": "1",
        "TRACELOOP_TELEMETRY": "false",
        "OTEL_SDK_DISABLED": "true",
        "HTTPS_PROXY": NOWHERE,
        "HTTP_PROXY": NOWHERE,
    }


async def _wait_until_up(server: ChainlitServer, process: asyncio.subprocess.Process) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(START_TIMEOUT_S):
        while True:
            with suppress(aiohttp.ClientError):
                async with session.get(f"{server.url}/auth/config") as response:
                    if response.ok:
                        return
            assert process.returncode is None, "the Chainlit app ended while it was starting"
            await asyncio.sleep(0.1)

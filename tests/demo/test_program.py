"""`python -m demo.site` as a program."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.support.waiting import HANG_LIMIT_S


@asynccontextmanager
async def running_site(*arguments: str) -> AsyncIterator[Process]:
    """Run `python -m demo.site` while the context lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo.site", *arguments, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def url_of(process: Process) -> str:
    """Return the URL that the program prints once it listens."""
    assert process.stdout
    line = (await process.stdout.readline()).decode()
    match = re.fullmatch(r"demo site on (http://127\.0\.0\.1:\d+)\n", line)
    assert match, line
    return match[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_ends_at_once_on_a_signal_with_answers_under_way(number: signal.Signals) -> None:
    async with running_site("--port", "0") as process, aiohttp.ClientSession() as http:
        url = await url_of(process)
        async with http.post(f"{url}/token/login", json={"username": "ada", "password": "lovelace"}) as response:
            token = (await response.json())["token"]
        message = {"conversation": "conversation", "model": "demo-small", "prompt": "[[stall=middle]]"}
        answer = await http.post(f"{url}/api/chat", json=message, headers={"Authorization": f"Bearer {token}"})
        async with http.ws_connect(f"{url}/api/ws") as web_socket:
            assert await answer.content.readline()
            process.send_signal(number)
            async with asyncio.timeout(HANG_LIMIT_S):
                assert await process.wait() == 0
                assert (await web_socket.receive()).type is not aiohttp.WSMsgType.TEXT
        assert (await answer.content.read()).endswith(b'{"type":"stopped"}\n\n')
        _, errors = await process.communicate()
        assert errors == b""


async def test_port_in_use_is_one_readable_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with running_site("--port", str(port)) as process:
            _, errors = await process.communicate()
            assert process.returncode == 1
            assert re.fullmatch(rf"demo site: cannot listen on 127\.0\.0\.1:{port}: .*\n", errors.decode())

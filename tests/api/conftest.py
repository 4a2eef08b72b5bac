"""A child's HTTP face on a real socket, over a page that a test scripts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import pytest

from api_utils.app import make_app
from api_utils.request_queue import RequestQueue
from api_utils.settings import ChildSettings
from api_utils.state import ChildState
from browser.page.chat_page import ChatPage
from contract.http_protocol import ConnectionLimits
from contract.http_server import HttpServer
from contract.keys import FollowedKeys
from contract.listener import listen

Serve = Callable[..., AbstractAsyncContextManager[aiohttp.ClientSession]]


@pytest.fixture
def serve(tmp_path: object) -> Serve:
    """`async with serve(page, ...) as client`: the child on a free port, and a client for it."""
    return serve_page


@contextlib.asynccontextmanager
async def serve_page(
    page: ChatPage,
    *,
    key_file: Path | None = None,
    settings: ChildSettings | None = None,
    max_waiting: int = 100,
) -> AsyncIterator[aiohttp.ClientSession]:
    state = ChildState(
        page,
        RequestQueue(page, max_waiting=max_waiting),
        settings or ChildSettings(),
        FollowedKeys(key_file),
        "demo",
        "chromium",
    )
    listener = listen("127.0.0.1", 0)
    server = HttpServer(make_app(state), limits=ConnectionLimits(state.settings.stream_idle_timeout_s))
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            yield client
    finally:
        server.should_exit = True
        await task

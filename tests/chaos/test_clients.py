"""What counts as a hung client, against servers that end a connection, or do not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from tests.chaos.clients import ClientRequest, Clients
from tests.chaos.verification import Ending

Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


async def close_with_bytes_in_the_kernel(writer: asyncio.StreamWriter) -> None:
    """Close in good order once all is handed to the kernel. The client's small buffer takes a part of it only."""
    writer.write(b"x" * 200_000)
    await writer.drain()
    writer.close()


async def reset(writer: asyncio.StreamWriter) -> None:
    """Give the client up."""
    writer.write(b"x" * 200_000)
    writer.transport.abort()


async def wait_for_the_client(writer: asyncio.StreamWriter) -> None:
    """Send as much as the client takes, however long it takes."""
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


@pytest.mark.parametrize(
    ("serve", "ending"),
    [
        (close_with_bytes_in_the_kernel, Ending.LEFT),
        (reset, Ending.LEFT),
        (wait_for_the_client, Ending.HUNG),
    ],
)
async def test_a_client_that_never_reads(serve: Serve, ending: Ending) -> None:
    tasks = set()

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(writer)
        except (ConnectionError, asyncio.CancelledError):
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    clients = Clients(server.sockets[0].getsockname()[1], hang_after_s=4.0, count=1)
    try:
        result = await clients.send(ClientRequest("x", "fake", True, "never_read"), random.Random(1))
        assert result.ending is ending
    finally:
        await clients.close()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""Listening sockets, as asyncio serves them."""

from __future__ import annotations

import asyncio
import socket

import pytest

from contract.listener import listen


async def test_a_connection_that_is_accepted_sends_small_writes_at_once() -> None:
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listen("127.0.0.1", 0)
    server = await asyncio.start_server(serve, sock=listener)
    async with server:
        _, writer = await asyncio.open_connection(*listener.getsockname())
        assert await asyncio.wait_for(accepted, 10) == 1
        writer.close()


def test_an_address_in_use_is_an_os_error_and_nothing_is_left_open() -> None:
    with listen("127.0.0.1", 0) as taken:
        with pytest.raises(OSError, match="Address already in use"):
            listen("127.0.0.1", taken.getsockname()[1])
        assert not taken.getblocking()


def test_ipv6_and_a_name_that_is_none() -> None:
    with listen("::1", 0) as listener:
        assert listener.family is socket.AF_INET6
    with pytest.raises(socket.gaierror):
        listen("no host", 0)

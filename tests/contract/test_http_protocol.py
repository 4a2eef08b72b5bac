"""A peer that does not read what it is sent loses its connection in time, in whatever order things happen."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from contract.http_protocol import ConnectionLimits, HttpProtocol
from contract.http_server import HttpServer
from contract.listener import listen
from tests.support.manual_loop import ManualLoop
from tests.support.waiting import eventually

LIMIT_S = 10.0
SHORT = ConnectionLimits(write_timeout_s=0.3)
HIGH, LOW = 64, 16  # bytes; as asyncio has them, a thousand times smaller


@dataclass
class ManualTransport:
    """What a protocol asks of a transport; its peer reads when the test says so."""

    protocol: Any = None
    unsent: int = 0
    closing: bool = False
    aborted: bool = False
    connection: socket.socket = field(default_factory=socket.socket)

    def write(self, size: int) -> None:
        self.unsent += size
        if self.unsent > HIGH and not self.protocol.flow.write_paused:
            self.protocol.pause_writing()

    def read(self, size: int) -> None:
        """Let the peer read."""
        self.unsent -= min(size, self.unsent)
        if self.unsent <= LOW and self.protocol.flow.write_paused:
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str) -> Any:
        return self.connection if name == "socket" else None

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@dataclass
class Response:
    """Stands for uvicorn's cycle."""

    response_complete: bool = False
    disconnected: bool = False
    message_event: asyncio.Event = field(default_factory=asyncio.Event)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 40)),
        st.tuples(st.just("read"), st.integers(1, 60)),
        st.tuples(st.just("wait"), st.floats(0.1, LIMIT_S)),
        st.tuples(st.just("end"), st.booleans()),
        st.tuples(st.just("begin"), st.none()),
    ),
    max_size=60,
)


@given(STEPS)
def test_only_a_peer_that_does_not_read_is_cut_off_and_always_in_time(steps: list[tuple[str, Any]]) -> None:
    loop, transport = ManualLoop(), ManualTransport()
    with loop_of(loop, transport) as protocol:
        held_up_since: float | None = None  # the response waits for the peer since then
        peer_read_at = 0.0  # or there was nothing for it to read, or more was to come
        for step, value in steps:
            ended = protocol.cycle.response_complete
            match step:
                case "write" if not ended and not protocol.flow.write_paused:
                    transport.write(value)
                case "read":
                    transport.read(value)
                    peer_read_at = loop.time()
                case "end" if not ended and not protocol.flow.write_paused:
                    protocol.cycle.response_complete = True
                    if value:
                        transport.close()
                    protocol.on_response_complete()
                case "begin" if ended and not transport.closing:
                    protocol.cycle = protocol._running = Response()
                case "wait":
                    loop.advance(value)
            if not transport.unsent or not protocol.cycle.response_complete:
                peer_read_at = loop.time()
            paused = protocol.flow.write_paused
            held_up_since = (held_up_since if held_up_since is not None else loop.time()) if paused else None
            stuck_s = loop.time() - peer_read_at
            if transport.aborted:
                assert protocol.stalled
                assert stuck_s >= LIMIT_S or (held_up_since is not None and loop.time() - held_up_since >= LIMIT_S)
                return
            assert held_up_since is None or loop.time() - held_up_since <= LIMIT_S
            # From the end of a response, one look may still find that it has shrunk since the one before.
            assert not protocol.cycle.response_complete or stuck_s <= 2 * LIMIT_S


@contextlib.contextmanager
def loop_of(loop: ManualLoop, transport: ManualTransport) -> Any:
    """A protocol on this loop and transport, in the middle of a response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    config = uvicorn.Config(app, log_config=None, timeout_keep_alive=10_000)
    protocol = loop.call(
        HttpProtocol,
        config=config,
        server_state=ServerState(),
        app_state={},
        _loop=loop,
        limits=ConnectionLimits(LIMIT_S),
    )
    transport.protocol = protocol
    protocol.connection_made(transport)  # type: ignore[arg-type]
    protocol.cycle = protocol._running = Response()  # type: ignore[assignment]
    try:
        yield protocol
    finally:
        transport.connection.close()
        loop.close()


@contextlib.asynccontextmanager
async def serving(
    app: ASGIApp, limits: ConnectionLimits = SHORT, **options: Any
) -> AsyncIterator[tuple[HttpServer, int]]:
    listener = listen("127.0.0.1", 0)
    server = HttpServer(app, limits=limits, **options)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await eventually(lambda: server.started)
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await task


def until_kernel_is_full(total: int, pause: bool) -> ASGIApp:
    """Answer with so many bytes, in whole or with the end held back until the transport has something to keep."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if pause:
            # The little that is left below the mark at which writing is paused.
            buffered = scope["extensions"]["test.buffered"]
            while not buffered():
                await send({"type": "http.response.body", "body": b"x" * 8192, "more_body": True})
        await send({"type": "http.response.body", "body": b"x" * total})

    return app


def read_all(connection: socket.socket) -> None:
    while connection.recv(1 << 20):
        pass


class Exposed(HttpProtocol):
    """Tells the application how much its transport keeps."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions = {"test.buffered": self.transport.get_write_buffer_size}
        self.scope["extensions"] = extensions  # type: ignore[typeddict-item]


@pytest.mark.parametrize("ending", ["close", "keep-alive"])
@pytest.mark.parametrize("pause", [True, False])
async def test_a_peer_that_reads_nothing_is_reset(ending: str, pause: bool) -> None:
    """Also where all was written before anything stuck: closing a transport waits for its peer, for ever."""
    async with serving(until_kernel_is_full(1000 if pause else 1 << 24, pause), protocol=Exposed) as (server, port):
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", port))
            connection.sendall(f"GET / HTTP/1.1\r\nhost: x\r\nconnection: {ending}\r\n\r\n".encode())
            await eventually(lambda: server.server_state.connections)
            await eventually(lambda: not server.server_state.connections)
            connection.settimeout(10)
            with pytest.raises(ConnectionResetError):
                await asyncio.to_thread(read_all, connection)


async def test_a_peer_that_reads_slowly_gets_all_of_it() -> None:
    total = 600_000
    async with serving(until_kernel_is_full(total, pause=False)) as (_, port):
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", port))
            connection.sendall(b"GET / HTTP/1.0\r\nhost: x\r\n\r\n")
            connection.settimeout(10)
            got = 0
            while piece := await asyncio.to_thread(connection.recv, 32_768):
                got += len(piece)
                await asyncio.sleep(0.01)
            assert got > total

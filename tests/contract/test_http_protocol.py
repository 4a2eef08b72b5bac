"""A peer that does not read what it is sent loses its connection in time, in whatever order things happen."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from contract.http_protocol import ConnectionLimits, HttpProtocol
from contract.http_server import HttpServer
from contract.listener import listen
from contract.logs import AtMostEvery
from tests.support.manual_loop import ManualLoop
from tests.support.size import size
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


EARLY_S = 1e-6
"""A loop calls what is due within the resolution of its clock, which is less."""

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
                held_up_s = 0.0 if held_up_since is None else loop.time() - held_up_since
                assert max(stuck_s, held_up_s) >= LIMIT_S - EARLY_S
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
            # What the transport keeps then is below the mark at which writing is paused.
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


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body, its length and what of the headers a caller would forge; `/early` does not wait for it."""
    body = b""
    while scope["path"] != "/early":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    forged = dict(scope["headers"]).get(b"x-key", b"none")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-key", forged)]})
    await send({"type": "http.response.body", "body": b"<" + body, "more_body": True})
    await send({"type": "http.response.body", "body": b">"})


async def exchange(port: int, *parts: bytes, hang_s: float = 20.0) -> bytes:
    """Send the parts one after another; return all that comes until the server closes. Raises TimeoutError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)
    got = b""
    try:
        async with asyncio.timeout(hang_s):
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(1 << 16):
                    got += piece
    finally:
        writer.transport.abort()
    return got


CLOSE = b"host: x\r\nconnection: close\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + CLOSE + b"transfer-encoding: chunked\r\n\r\n"
QUICK = ConnectionLimits(write_timeout_s=5, head_timeout_s=0.3, keep_alive_s=0.5)


async def test_a_header_after_the_body_counts_for_nothing() -> None:
    async with serving(echo) as (_, port):
        got = await exchange(port, CHUNKED, b"2\r\nhi\r\n0\r\nx-key: forged\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 200 ")
        assert b"x-key: none" in got


@pytest.mark.parametrize(
    ("start", "flood"),
    [
        (CHUNKED + b"0\r\n", b"a:\r\n" * 50_000),
        (CHUNKED + b"0\r\na: ", b"y" * 200_000),
        (CHUNKED + b"1;", b"x" * 200_000),
        (b"GET / HTTP/1.1\r\na: ", b"y" * 200_000),
        (b"GET /", b"y" * 200_000),
    ],
)
async def test_what_is_around_a_body_has_a_limit(start: bytes, flood: bytes) -> None:
    async with serving(echo) as (server, port):
        got = await exchange(port, start, *[flood[at : at + 40_000] for at in range(0, len(flood), 40_000)])
        assert got.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b'"type":"invalid_request_error"' in got
        assert b"x-request-id: " in got
        await eventually(lambda: not server.server_state.connections)


@pytest.mark.parametrize(
    ("start", "room"), [(b"GET /early HTTP/1.1\r\n" + CLOSE, 254), (CHUNKED + b"0\r\n", 253)], ids=["head", "trailers"]
)
async def test_headers_have_a_limit_in_number_too(start: bytes, room: int) -> None:
    async with serving(echo) as (_, port):
        got = await exchange(port, start + b"a:\r\n" * room + b"\r\n")
        assert got.startswith(b"HTTP/1.1 200 ")
        got = await exchange(port, start + b"a:\r\n" * (room + 1) + b"\r\n")
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"more headers than the server takes" in got


async def test_a_request_with_two_hosts_is_refused() -> None:
    """RFC 9112, section 3.2: which of them was meant, the next to look may see otherwise."""
    async with serving(echo) as (_, port):
        got = await exchange(port, b"GET /early HTTP/1.1\r\nHost: localhost\r\n" + CLOSE + b"hOST: other\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"more than one Host header" in got


@pytest.mark.parametrize("size", [65_537, 70_000, 1_000_000])
async def test_a_head_has_a_limit_however_it_comes(size: int) -> None:
    async with serving(echo) as (_, port):
        got = await exchange(port, b"GET /early HTTP/1.1\r\n" + CLOSE + b"cookie: " + b"x" * size + b"\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"head is too large" in got


async def test_one_connection_does_not_hold_up_the_others_with_much_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    take = HttpProtocol.data_received

    def count(protocol: HttpProtocol, data: bytes) -> None:
        sizes.append(len(data))
        take(protocol, data)

    monkeypatch.setattr(HttpProtocol, "data_received", count)
    body = b"x" * 3_000_000
    async with serving(echo) as (_, port):
        got = await exchange(port, b"POST / HTTP/1.1\r\n" + CLOSE + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert got.startswith(b"HTTP/1.1 200 ")
    assert sum(sizes) > len(body)
    assert max(sizes) <= 32 * 1024


async def test_an_answer_before_the_end_of_the_request_can_be_read_and_closes_the_connection() -> None:
    head = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n"
    async with serving(echo) as (server, port):
        got = await exchange(port, head, *[b"x" * 100_000] * 20)
        assert b"connection: close" in got
        assert got.endswith(b"1\r\n<\r\n1\r\n>\r\n0\r\n\r\n")
        await eventually(lambda: not server.server_state.connections)


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nhost:", b"\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"])
async def test_a_connection_without_a_request_ends(data: bytes) -> None:
    async with serving(echo, QUICK) as (server, port):
        await exchange(port, data)
        await eventually(lambda: not server.server_state.connections)


async def test_the_longest_idle_connection_makes_room() -> None:
    async with serving(echo, ConnectionLimits(write_timeout_s=5, connections=3)) as (server, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await eventually(lambda: len(server.server_state.connections) == 3)
        got = await exchange(port, b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
        assert got.startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(idle[0][0].readexactly(1), 20)
        assert len(server.server_state.connections) <= 3
        for _, writer in idle:
            writer.transport.abort()


async def test_a_connection_that_had_a_request_since_does_not_make_room_and_one_with_a_request_never() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            begun.set()
            await go_on.wait()
        await echo(scope, receive, send)

    async with serving(slow, ConnectionLimits(write_timeout_s=5, connections=3)) as (server, port):
        busy, used, idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await eventually(lambda: len(server.server_state.connections) == 3)
        busy[1].write(b"GET /slow HTTP/1.1\r\n\r\n")
        await begun.wait()
        used[1].write(b"GET / HTTP/1.1\r\n\r\n")
        assert await asyncio.wait_for(used[0].readuntil(b"\r\n\r\n"), 20)
        fourth = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(idle[0].readexactly(1), 20)
        go_on.set()
        assert await asyncio.wait_for(busy[0].readuntil(b"\r\n\r\n"), 20)
        for connection in (busy, used, fourth):
            connection[1].write(b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")
            assert b"200 OK" in await asyncio.wait_for(connection[0].read(), 20)


def test_making_room_costs_the_same_among_many_connections_as_among_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands that came at once had the server look through all of them for each, and `/live` wait for seconds."""
    # Whether the line of the log, one a second at most, falls into one count or the other is a matter of time.
    logged = AtMostEvery(math.inf)
    assert logged.due()
    monkeypatch.setattr("contract.http_protocol._full", logged)

    def calls(connections: int) -> int:
        loop, made = ManualLoop(), []
        config = uvicorn.Config(lambda: None, log_config=None)
        limits = ConnectionLimits(LIMIT_S, connections=connections)
        shared = {"config": config, "server_state": ServerState(), "app_state": {}, "_loop": loop}
        idle: dict[HttpProtocol, None] = {}
        count = 0

        def note(_: FrameType, event: str, __: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        for number in range(connections + 5):
            transport = ManualTransport()
            protocol = loop.call(HttpProtocol, limits=limits, idle=idle, **shared)
            if number >= connections:
                sys.setprofile(note)
            protocol.connection_made(transport)  # type: ignore[arg-type]
            sys.setprofile(None)
            made.append(transport)
        assert [transport.aborted for transport in made] == [True] * 5 + [False] * connections
        for transport in made:
            transport.connection.close()
        loop.close()
        return count

    assert calls(200) == calls(20)


UPGRADE = b"connection: close, Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\nhost: x\r\n"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (b"content-length: 5\r\n\r\n", b"hello"),
        (b"transfer-encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"\r\n", b""),
    ],
)
async def test_an_offer_of_another_protocol_is_ignored(fields: bytes, body: bytes, whole: bool) -> None:
    head = b"POST / HTTP/1.1\r\n" + UPGRADE + fields
    async with serving(echo) as (_, port):
        got = await exchange(port, *([head + body] if whole else [head, body]))
        assert got.startswith(b"HTTP/1.1 200 ")
        assert (b"hello" in got) == bool(body)


async def test_a_tunnel_is_refused() -> None:
    async with serving(echo) as (_, port):
        got = await exchange(port, b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("offer", [b"", b"connection: upgrade\r\nupgrade: h2c\r\n"])
async def test_http_1_0_gets_no_chunks(offer: bytes) -> None:
    async with serving(echo) as (_, port):
        got = await exchange(port, b"POST / HTTP/1.0\r\n" + offer + b"content-length: 5\r\n\r\nhello")
        head, _, body = got.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert body == b"<hello>"


async def test_pipelined_requests_are_answered_in_order_and_have_a_limit() -> None:
    one = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n"
    async with serving(echo, QUICK) as (server, port):
        got = await exchange(port, b"".join(one + b"%d" % number for number in range(9)))
        assert [int(part[:1]) for part in got.split(b"<")[1:]] == list(range(9))
        assert await exchange(port, (one + b"x") * 1000) == b""
        await eventually(lambda: not server.server_state.connections)


async def test_a_peer_that_leaves_with_a_request_queued_is_noticed() -> None:
    left = asyncio.Event()

    async def until_left(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    async with serving(until_left) as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 2)
        await writer.drain()
        await eventually(lambda: [one for one in server.server_state.connections if one.pipeline])  # type: ignore[union-attr]
        writer.transport.abort()
        await asyncio.wait_for(left.wait(), 20)


BYTES = st.lists(
    st.sampled_from(
        (
            *(b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", b"\r\n", b"host: x\r\n", b"content-length: 3\r\n"),
            *(b"abc", b"transfer-encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"upgrade: h2c\r\n"),
            *(b"connection: upgrade\r\n", b"expect: 100-continue\r\n", b"\x00\xff", b"a" * 70_000),
        )
    ),
    max_size=14,
)


async def echo_in_time(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo, with a deadline for the body, which is the application's business: both programs have one."""
    try:
        async with asyncio.timeout(0.5):
            await echo(scope, receive, send)
    except TimeoutError:
        await send({"type": "http.response.start", "status": 408, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@given(st.lists(BYTES, min_size=1, max_size=20))
@example([[b"POST / HTTP/1.1\r\n", b"content-length: 3\r\n", b"\r\n"]])  # and then nothing
@settings(max_examples=size(10, 25), deadline=None)
def test_whatever_comes_in_ends_and_leaves_nothing(talks: list[list[bytes]]) -> None:
    async def talk() -> None:
        async with serving(echo_in_time, QUICK) as (server, port):
            await asyncio.gather(*(exchange(port, *parts) for parts in talks))
            await eventually(lambda: not server.server_state.connections)
            assert not server.server_state.tasks
            assert b"200 OK" in await exchange(port, b"GET / HTTP/1.1\r\n" + CLOSE + b"\r\n")

    asyncio.run(talk())


def test_a_server_that_nobody_asks_sets_no_timer() -> None:
    """A fleet's children wait most of the time: what wakes each of them costs more than it does."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("nobody asks")

    def timers() -> list[asyncio.TimerHandle]:
        scheduled: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        return [timer for timer in scheduled if not timer.cancelled()]

    async def look() -> None:
        async with serving(app) as (server, _):
            for _ in range(10):
                await asyncio.sleep(0)
            assert server.started
            assert timers() == []

    asyncio.run(look())  # in a loop of its own, in which no other test has left a timer


async def test_each_answer_of_a_connection_has_its_own_date(monkeypatch: pytest.MonkeyPatch) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    times = iter([0.0, 1.5e9, 1.5e9 + 0.9, 1.5e9 + 1])
    now = 0.0
    monkeypatch.setattr(time, "time", lambda: now)
    dates = []
    async with serving(app) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for now in times:  # noqa: B007 - the server reads it
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            dates += [line.removeprefix("date: ") for line in head.split("\r\n") if line.startswith("date: ")]
        writer.close()
    assert dates == [
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 14 Jul 2017 02:40:00 GMT",
        "Fri, 14 Jul 2017 02:40:00 GMT",
        "Fri, 14 Jul 2017 02:40:01 GMT",
    ]

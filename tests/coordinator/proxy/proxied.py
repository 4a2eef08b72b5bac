"""The coordinator's application over real children or over scripted upstreams, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

from openai import AsyncOpenAI

from contract.hosts import Hosts
from contract.http_protocol import ConnectionLimits
from contract.keys import KeyStore
from coordinator.api import Application, build_api
from coordinator.proxy.admission import Access, BodyLimits
from coordinator.proxy.application import Proxy, ProxyConfig, RequestDone
from coordinator.proxy.exchange import Children, Limits, Outcome
from coordinator.proxy.idempotency import RecordLimits
from coordinator.proxy.pool import Backend, Pool
from coordinator.proxy.server import Server, bind
from tests.support.api_clients import async_openai_client
from tests.support.waiting import eventually

KEY = "test-key"
SOON = Limits(queue_s=30, first_token_s=30, idle_s=30, keep_alive_s=0, margin_s=0)


@dataclass
class Served:
    """A proxy that listens, and what its hook was called with and when that request came."""

    port: int
    pool: Pool
    proxy: Proxy
    access: Access
    noted: list[tuple[float, RequestDone]]
    server: Server
    clients: list[AsyncOpenAI] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = KEY, **more: Any) -> AsyncOpenAI:
        """Return the real client with its default retries; it is closed at the end."""
        self.clients.append(async_openai_client(self.url, key, **more))
        return self.clients[-1]

    async def outcomes(self) -> list[tuple[Outcome, str | None]]:
        return [(done.stats.outcome, done.stats.code) for done in await self.ended()]

    async def ended(self) -> list[RequestDone]:
        """Return what the hook was told of each request, in the order in which they came, once all have ended.

        A caller has its answer before its request has ended, and the next may end first: a lease is
        given back after the last byte.
        """
        await eventually(lambda: self.quiet)
        return [done for _, done in sorted(self.noted, key=itemgetter(0))]

    @property
    def done(self) -> list[RequestDone]:
        return [done for _, done in self.noted]

    @property
    def quiet(self) -> bool:
        """Whether there is no request in flight, none that waits, and no lease."""
        return not (self.proxy.in_flight or self.pool.leases_held or self.pool.queue_length)


@contextlib.asynccontextmanager
async def served(
    pool: Pool,
    children: Children,
    tmp_path: Path,
    *,
    keys: tuple[str, ...] = (KEY,),
    limits: Limits = SOON,
    loopback_only: bool = True,
    max_body_bytes: int = 100_000,
    max_buffered_bytes: int = 100_000_000,
    origins: tuple[str, ...] = (),
    records: RecordLimits | None = None,
) -> AsyncIterator[Served]:
    """Serve `/v1` from this pool on a free port."""
    key_file = tmp_path / "keys.txt"
    key_file.write_text("".join(f"{key}\n" for key in keys))
    access = Access(KeyStore.from_file(key_file))
    noted: list[tuple[float, RequestDone]] = []

    def note(done: RequestDone) -> None:
        noted.append((asyncio.get_running_loop().time() - done.duration_s, done))

    bodies = BodyLimits(max_body_bytes, max_buffered_bytes, limits.idle_s)
    config = ProxyConfig(limits, bodies, owner="fake", records=records or RecordLimits())
    proxy = Proxy(pool=pool, children=children, access=access, config=config, on_done=note)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    api = build_api(NoFleet(), access, lambda: b"")
    hosts = Hosts(loopback_only, frozenset({"allowed.example"}))
    application = Application(proxy, api, pool, access=access, hosts=hosts, origins=origins)
    server = Server(application, ConnectionLimits(limits.idle_s))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    running = Served(port, pool, proxy, access, noted, server)
    try:
        yield running
    finally:
        for client in running.clients:
            await client.close()
        proxy.cancel_all()
        await asyncio.wait_for(proxy.wait_idle(), 30)
        serving.cancel()  # quicker than the server's own polling for its end
        await asyncio.gather(serving, return_exceptions=True)
        await proxy.close()
        for listening in server.servers:
            listening.close()
        for connection in tuple(server.server_state.connections):
            connection.transport.abort()


class NoFleet:
    """A fleet for tests that do not look at the routes beside `/v1`."""

    ready = True

    @property
    def supervisor(self) -> Any:
        raise NotImplementedError

    @property
    def logins(self) -> Any:
        raise NotImplementedError

    def view(self) -> dict[str, Any]:
        return {}

    async def reload(self) -> Any:
        raise NotImplementedError


@dataclass
class ScriptedChildren:
    """Supervision that answers as the test sets it, and records what was cancelled."""

    fresh: bool = True
    submitted: bool | None = True
    retry: bool = False
    cancelled: list[str] = field(default_factory=list)

    async def cancel(self, backend: Backend, request_id: str) -> bool:
        self.cancelled.append(request_id)
        return self.fresh

    def was_submitted(self, backend: Backend, request_id: str) -> bool | None:
        return self.submitted

    async def may_retry(self, backend: Backend, request_id: str) -> bool:
        return self.retry


@dataclass
class Conversation:
    """One connection as the upstream sees it: the request's bytes, and means to answer with any bytes."""

    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def header(self, name: str) -> list[str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.split(": ", 1) for line in lines if line)
        return [value for key, value in pairs if key.lower() == name]

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def begin_stream(self, *headers: str, content_type: str = "text/event-stream") -> None:
        lines = ("HTTP/1.1 200 OK", f"content-type: {content_type}", "transfer-encoding: chunked", *headers)
        await self.send("\r\n".join((*lines, "", "")).encode())

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def whole(self, body: bytes, *headers: str, status: str = "200 OK") -> None:
        lines = (f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers)
        await self.send("\r\n".join((*lines, "", "")).encode() + body)

    async def until_closed(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Script = Callable[[Conversation], Awaitable[None]]


@contextlib.asynccontextmanager
async def upstream(script: Script) -> AsyncIterator[str]:
    """Serve a script in place of a child; it is called for each request, and the connection then closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            conversation = Conversation(head[:-4], b"", reader, writer)
            length = int((conversation.header("content-length") or ["0"])[0])
            conversation.body = await reader.readexactly(length)
            await script(conversation)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def backend(url: str, name: str = "a", *, models: tuple[str, ...] = ("fake",)) -> Backend:
    return Backend(name, url, models=models, token="the-control-token", ready=True)


@contextlib.asynccontextmanager
async def scripted(
    tmp_path: Path, script: Script, *, children: ScriptedChildren | None = None, **more: Any
) -> AsyncIterator[Served]:
    """Serve the proxy over one scripted child."""
    pool = Pool(max_queue=more.pop("max_queue", 10))
    async with upstream(script) as url:
        pool.put(backend(url))
        async with served(pool, children or ScriptedChildren(), tmp_path, **more) as running:
            yield running


def chat(prompt: str = "hello", **more: Any) -> bytes:
    """Return a request body."""
    body = {"model": "fake", "messages": [{"role": "user", "content": prompt}], **more}
    return json.dumps(body).encode()


def request(
    body: bytes = b"", *headers: str, method: str = "POST", path: str = "/v1/chat/completions", key: str | None = KEY
) -> bytes:
    """Return a whole request with the usual headers; those in `headers` are added."""
    names = {header.partition(":")[0].lower() for header in headers}
    usual = {
        "host": "127.0.0.1",
        "authorization": f"Bearer {key}" if key else "",
        "content-type": "application/json" if method == "POST" else "",
        "content-length": str(len(body)) if method == "POST" else "",
    }
    lines = [f"{name}: {value}" for name, value in usual.items() if value and name not in names]
    return "\r\n".join((f"{method} {path} HTTP/1.1", *lines, *headers, "", "")).encode() + body


def chunked_head() -> bytes:
    """Return the head of a request whose body is chunked."""
    return request(b"", "transfer-encoding: chunked").replace(b"content-length: 0\r\n", b"")


@dataclass
class Answer:
    """A response as it came over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    @property
    def error(self) -> dict[str, Any]:
        """The error in OpenAI's form; it has all four fields and nothing else."""
        parsed = json.loads(self.body)
        assert set(parsed) == {"error"}
        assert set(parsed["error"]) == {"message", "type", "param", "code"}
        error: dict[str, Any] = parsed["error"]
        return error


class Caller:
    """A raw HTTP client on one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Caller:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, data: bytes) -> Answer:
        self.writer.write(data)
        status, headers = await self.head()
        names = dict(headers)
        if "content-length" in names:
            return Answer(status, headers, await self.reader.readexactly(int(names["content-length"])))
        return Answer(status, headers, b"".join([chunk async for chunk in self.chunks()]))

    async def head(self) -> tuple[int, list[tuple[str, str]]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines[1:] if line]
        return int(lines[0].split()[1]), [(name.lower(), value) for name, value in pairs]

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()


async def ask(port: int, data: bytes) -> Answer:
    """Send one request on a connection of its own."""
    caller = await Caller.connect(port)
    try:
        return await asyncio.wait_for(caller.ask(data), 30)
    finally:
        caller.close()

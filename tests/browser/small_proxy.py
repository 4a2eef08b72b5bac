"""A proxy of each kind, as small as can be, that can be told to misbehave."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

from browser.process.proxy_requests import Streams, close, relay

LOGIN = ("ada@x", "canary%2F:#")
"""A user name and a password that need encoding in a URL."""


@dataclass
class SmallProxy:
    """`asked` are the hosts and ports that it was asked for, and `heads` what came before their first empty line.

    `hosts` are names that it alone knows. It answers with `reply` in place of what it should, if set, and closes.
    """

    kind: str
    url: str = ""
    port: int = 0
    login: tuple[str, str] | None = None
    reply: bytes | None = None
    hosts: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    stop: Callable[[], None] = lambda: None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def kill(self) -> None:
        """Take no more connections, and end those that there are."""
        self.stop()
        for writer in self._writers:
            writer.transport.abort()

    @property
    def url_with_login(self) -> str:
        """The proxy's address with LOGIN."""
        return self.url.replace("://", f"://{quote(LOGIN[0], safe='')}:{quote(LOGIN[1], safe='')}@")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        self._writers.add(writer)
        upstream: Streams | None = None
        try:
            upstream = await (self._socks if self.kind == "socks5" else self._http)(reader, writer)
            if upstream:
                await relay((reader, writer), upstream)
        except (OSError, EOFError):
            pass
        finally:
            for streams in filter(None, ((reader, writer), upstream)):
                close(streams)

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Streams | None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, url, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        if self.reply is not None:
            writer.write(self.reply)
            return None
        if self.login:
            expected = base64.b64encode(":".join(self.login).encode())
            if b"\r\nProxy-Authorization: Basic " + expected + b"\r\n" not in head:
                writer.write(
                    b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
                )
                return None
        target = url if method == "CONNECT" else url.removeprefix("http://").partition("/")[0]
        upstream = await self._open(target)
        if method == "CONNECT":
            # In pieces, and with more than one header: replies come as the network brings them.
            for piece in (b"HTTP/1.0 200 Conn", b"ection established\r\nVia: small\r\nX-", b"A: b\r\n\r\n"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        else:
            upstream[1].write(head)
        return upstream

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Streams | None:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        if self.reply is not None and not self.reply.startswith(b"\5\0\5"):
            writer.write(self.reply)
            return None
        if self.login:
            if 2 not in methods:
                writer.write(b"\5\xff")
                return None
            writer.write(b"\5\2")
            await reader.readexactly(1)
            name = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            if (name.decode(), password.decode()) != self.login:
                writer.write(b"\1\1")
                return None
            writer.write(b"\1\0")
        else:
            writer.write(b"\5\0")
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(map(str, await reader.readexactly(4)))
        port = int.from_bytes(await reader.readexactly(2))
        if self.reply is not None:
            writer.write(self.reply[2:])
            return None
        upstream = await self._open(f"{host}:{port}")
        writer.write(b"\5\0\0\1\0\0\0\0\0\0")
        return upstream

    async def _open(self, target: str) -> Streams:
        self.asked.append(target)
        host, _, port = target.rpartition(":")
        return await asyncio.open_connection(self.hosts.get(host, host), int(port))


@asynccontextmanager
async def small_proxy(kind: str, *, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[SmallProxy]:
    """Serve a proxy of this kind (http, https, socks5) on 127.0.0.1."""
    proxy = SmallProxy(kind)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port, ssl=tls)
    proxy.stop = server.close
    proxy.port = server.sockets[0].getsockname()[1]
    proxy.url = f"{kind}://127.0.0.1:{proxy.port}"
    try:
        yield proxy
    finally:
        server.close()

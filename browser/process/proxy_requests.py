"""What a browser asks of its proxy, over HTTP or SOCKS, and the copying of bytes that follows.

Wire formats: RFC 9110 section 9.3.6 (CONNECT), RFC 9112 section 3.2 (the forms of a request's target), RFC 1928
(SOCKS5, without a login).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, Self
from urllib.parse import urlsplit

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
"""Both ends of a connection, as asyncio opens one."""

_CHUNK_BYTES: Final = 64 * 1024
_REQUEST_LINE: Final = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.[01]")
_DROPPED: Final = frozenset({b"connection", b"proxy-connection", b"proxy-authorization", b"keep-alive"})
"""Headers that a browser says to its proxy alone."""
_BAD_GATEWAY: Final = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_SOCKS: Final = b"\5"
_SOCKS_REPLY: Final = b"\5%c\0\1\0\0\0\0\0\0"
_SOCKS_FAILURE: Final = 1


@dataclass(frozen=True)
class Target:
    """A host, as a name in lower case or an address without brackets, and a port."""

    host: str
    port: int

    @classmethod
    def of(cls, address: str, default_port: int | None = None) -> Self:
        """Read HOST:PORT. Raises ValueError."""
        parts = urlsplit(f"//{address}")
        port = parts.port or default_port
        if not parts.hostname or not port:
            raise ValueError(address)
        return cls(parts.hostname.rstrip("."), port)

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine by its name, or by an address that means none but itself."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        with suppress(ValueError):
            address = ip_address(self.host)
            address = getattr(address, "ipv4_mapped", None) or address
            return address.is_loopback or address.is_unspecified
        # The system takes forms such as 127.1 and 0x7f.1, and so do proxies.
        with suppress(OSError):
            address = ip_address(socket.inet_aton(self.host))
            return address.is_loopback or address.is_unspecified
        return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Request:
    """The head of a request to the listener."""

    method: bytes
    url: bytes
    lines: tuple[bytes, ...]

    @classmethod
    def parse(cls, head: bytes) -> Self:
        """Raises ValueError for what no browser sends to a proxy."""
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        found = _REQUEST_LINE.fullmatch(first)
        if not found:
            raise ValueError("no request line")
        return cls(found[1], found[2], tuple(lines))

    def target(self) -> Target:
        """Return where it goes. Raises ValueError."""
        if self.method == b"CONNECT":
            return Target.of(self.url.decode("ascii"))
        parts = urlsplit(self.url.decode("ascii"))
        if parts.scheme != "http":
            raise ValueError("no address of a page")
        return Target.of(parts.netloc.rpartition("@")[2], 80)

    def head(self, url: bytes, *more: bytes) -> bytes:
        """Return the head for another url, for a connection that takes this one request."""
        kept = (line for line in self.lines if line.partition(b":")[0].strip().lower() not in _DROPPED)
        return b"\r\n".join((b"%s %s HTTP/1.1" % (self.method, url), *kept, *more, b"Connection: close", b"", b""))

    def path(self) -> bytes:
        """Return what the site itself is asked for."""
        rest = self.url.partition(b"://")[2]
        start = re.search(rb"[/?]", rest)
        path = rest[start.start() :] if start else b""
        return path if path.startswith(b"/") else b"/" + path

    def body_bytes(self) -> int | None:
        """Return the length of its body; None for one in chunks, which ends as it says itself."""
        for line in self.lines:
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"transfer-encoding":
                return None
            if name.strip().lower() == b"content-length":
                return int(value)
        return 0


@dataclass(frozen=True)
class Wish:
    """What a browser wants of one connection: a tunnel, which is `granted` or `refused` in these words, or a request.

    A request is refused without a word.
    """

    target: Target
    request: Request | None = None
    granted: bytes = b""
    refused: bytes = b""


async def read_wish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Wish:
    """Read what a browser wants. Raises ValueError, EOFError, OSError, LimitOverrunError."""
    first = await reader.readexactly(1)
    if first == _SOCKS:
        target = await _read_socks(reader, writer)
        return Wish(target, granted=_SOCKS_REPLY % 0, refused=_SOCKS_REPLY % _SOCKS_FAILURE)
    request = Request.parse(first + await reader.readuntil(b"\r\n\r\n"))
    if request.method == b"CONNECT":
        return Wish(request.target(), granted=b"HTTP/1.1 200 Connection established\r\n\r\n", refused=_BAD_GATEWAY)
    return Wish(request.target(), request)


async def _read_socks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Target:
    """Read the rest of a client's greeting, and its request, which must be to connect. Raises ValueError."""
    await reader.readexactly((await reader.readexactly(1))[0])
    writer.write(b"\5\0")
    version, command, _, kind = await reader.readexactly(4)
    if (version, command) != (_SOCKS[0], 1):
        raise ValueError("no request to connect")
    if kind == 3:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii")
    elif kind in (1, 4):
        host = str(ip_address(await reader.readexactly(4 if kind == 1 else 16)))
    else:
        raise ValueError("no kind of address")
    return Target(host.lower().rstrip("."), int.from_bytes(await reader.readexactly(2)))


async def relay(
    browser: Streams,
    upstream: Streams,
    *,
    body_bytes: int | None = None,
    begin: Coroutine[Any, Any, None] | None = None,
) -> None:
    """Copy both ways until both have ended, or one breaks; `begin` passes on the beginning of what comes back.

    With `body_bytes` no more than these are taken from the browser: what it would send next on this connection may be
    for another host. Raises OSError, EOFError, SiteUnreachable.
    """

    async def down() -> None:
        if begin:
            await begin
        await _copy(upstream[0], browser[1])

    ways = (
        asyncio.create_task(_copy(browser[0], upstream[1], body_bytes), name="own-proxy-up"),
        asyncio.create_task(down(), name="own-proxy-down"),
    )
    try:
        await asyncio.gather(*ways)
    finally:
        for way in ways:
            way.cancel()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, most_bytes: int | None = None) -> None:
    left = most_bytes
    while left != 0:
        data = await source.read(_CHUNK_BYTES if left is None else min(_CHUNK_BYTES, left))
        if not data:
            break
        sink.write(data)
        await sink.drain()
        left = None if left is None else left - len(data)
    if most_bytes is not None:
        await source.read(1)
        raise ConnectionResetError("the browser has left, or has more to say than this connection is for")
    if sink.can_write_eof():
        sink.write_eof()
    else:  # TLS has no half of a connection to close
        sink.close()


def close(streams: Streams) -> None:
    """Close a connection, without waiting."""
    streams[1].close()

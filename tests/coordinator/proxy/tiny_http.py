"""A minimal HTTP/1.1 server for the fake child: it starts three times faster than a framework.

Content-Length request bodies, keep-alive, chunked streams; a handler is cancelled when its client leaves.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias


class Cut(Exception):
    """Raised by a handler to abort the connection."""


@dataclass
class Exchange:
    """A request; it is answered once by `answer`, or by `send` for each chunk and then `end`."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    writer: asyncio.StreamWriter
    begun: bool = False

    def json(self) -> Any:
        return json.loads(self.body)

    async def answer(self, status: int, content: Any, **headers: str) -> None:
        body = json.dumps(content).encode()
        self._write_head(status, {"content-type": "application/json", "content-length": str(len(body)), **headers})
        self.writer.write(body)
        await self.writer.drain()

    async def send(self, chunk: bytes, **headers: str) -> None:
        """Send a chunk of a stream; the first one takes the head with it, as the child's does."""
        if not self.begun:
            self._write_head(200, {"content_type": "text/event-stream", "transfer_encoding": "chunked", **headers})
        self.writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    def _write_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.begun = True
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([f"HTTP/1.1 {status} Fake", *lines, "", ""]).encode("latin-1"))


Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]


async def serve(handler: Handler, port: int, connections: set[asyncio.StreamWriter] | None = None) -> asyncio.Server:
    """Listen on loopback; `connections` are those that are open. Raises OSError if the port is taken."""
    known = set[asyncio.StreamWriter]() if connections is None else connections

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known.add(writer)
        try:
            while (exchange := await read_request(reader, writer)) is not None:
                await unless_left(reader, handler(exchange))
        except (ConnectionError, asyncio.IncompleteReadError, Cut):
            pass
        finally:
            known.discard(writer)
            writer.transport.abort()

    return await asyncio.start_server(connected, "127.0.0.1", port)


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Exchange(method, path, headers, body, writer)


async def unless_left(reader: asyncio.StreamReader, answering: Awaitable[None]) -> None:
    """Answer, but stop as soon as the client has closed the connection."""
    answer = asyncio.ensure_future(answering)
    left = asyncio.ensure_future(reader.read(1))
    await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
    for task in (answer, left):
        task.cancel()
    await asyncio.wait({answer, left})
    if answer.cancelled() or not left.cancelled():
        raise ConnectionResetError
    answer.result()

"""HTTP/1.1 for plain downloads (RFC 9112): one request at a time over a connection that stays open.

Whatever is not a plain and complete answer is not understood here; it is left to the SDK.
"""

from __future__ import annotations

import asyncio
from typing import Final

_OK: Final = b"HTTP/1.1 200 "


class Connection:
    """An open connection. `is_over` says that it takes no further request."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, silence_limit_s: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._silence_limit_s = silence_limit_s
        self._rest = f" HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tabfleet\r\nAccept-Encoding: identity\r\n\r\n"
        self.is_over = False

    def close(self) -> None:
        """End it, whatever its state."""
        self._writer.transport.abort()

    async def get(self, target: str, max_bytes: int) -> tuple[bytes, str]:
        """The first `max_bytes` of a plain answer, and its ETag.

        Raises ConnectionError or EOFError if the server breaks it off, TimeoutError if it is silent, ValueError for
        any other answer; then the connection is over.
        """
        self._writer.write(f"GET {target}{self._rest}".encode("ascii"))
        fields = _fields(await self._head())
        length = int(fields["content-length"])
        self.is_over = length > max_bytes or "close" in fields.get("connection", "").lower()
        return await self._body(min(length, max_bytes)), fields.get("etag", "")

    async def _head(self) -> bytes:
        try:
            async with asyncio.timeout(self._silence_limit_s):
                return await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise ValueError("the answer is not HTTP") from None

    async def _body(self, length: int) -> bytes:
        parts = []
        while length:
            async with asyncio.timeout(self._silence_limit_s):
                part = await self._reader.read(length)
            if not part:
                raise EOFError
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


def _fields(head: bytes) -> dict[str, str]:
    """The fields of an answer with status 200 and a length, by names in lower case. Raises ValueError for others."""
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if not head.startswith(_OK) or "transfer-encoding" in fields or not fields.get("content-length", "").isdecimal():
        raise ValueError("not a plain answer")
    return fields

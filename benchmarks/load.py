"""Generate load over raw sockets: JSON completions one after the other, and concurrent streams."""

from __future__ import annotations

import asyncio
import json

KEY = "bench-key"


def _request(*, stream: bool, model: str = "bench") -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "x" * 300}], "stream": stream}
    data = json.dumps(body).encode()
    # As many headers as the OpenAI client sends.
    stainless = [f"x-stainless-{name}: 1.0" for name in ("arch", "lang", "os", "runtime", "async", "retry-count")]
    head = (
        "POST /v1/chat/completions HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        "accept: application/json",
        "accept-encoding: gzip, deflate",
        "user-agent: AsyncOpenAI/Python 3.54.0",
        f"authorization: Bearer {KEY}",
        *stainless,
        f"content-length: {len(data)}",
    )
    return "\r\n".join((*head, "", "")).encode() + data


_STREAM = _request(stream=True)


async def json_completions(port: int, *, requests: int, connections: int, model: str = "bench") -> None:
    """Send JSON requests over a number of kept-alive connections. Raise ValueError for any status but 200."""
    request = _request(stream=False, model=model)

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(requests // connections):
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _check(head)
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))


async def streams(port: int, *, count: int) -> int:
    """Run `count` concurrent streams; return the number of events received. Raise ValueError for a broken one."""

    async def one() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(_STREAM)
        _check(await reader.readuntil(b"\r\n\r\n"))
        events, last = 0, b""
        while not last.endswith(b"0\r\n\r\n"):
            data = await reader.read(65536)
            if not data:
                raise ValueError("a stream was truncated")
            events += data.count(b"data: {")
            last = (last + data)[-16:]
        writer.close()
        return events

    return sum(await asyncio.gather(*(one() for _ in range(count))))


def _check(head: bytes) -> None:
    if b" 200 " not in head[:16]:
        raise ValueError(f"response: {head[:40]!r}")

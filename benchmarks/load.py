"""Generate load over raw sockets: JSON completions one after the other, and concurrent streams."""

from __future__ import annotations

import asyncio
import json
from typing import Any

KEY = "bench-key"


def chat_request(prompt: str = "x" * 300, *, stream: bool = False, model: str = "bench", **more: Any) -> bytes:
    """Return a chat request as the OpenAI client sends it; `more` are further parameters."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream, **more}
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


def tool_declarations(count: int) -> list[dict[str, Any]]:
    """Return functions as agents declare them, of some 700 bytes each."""
    described = "What this argument is for, in a sentence or two, as the authors of agents write them for a model."
    texts = {name: {"type": "string", "description": described} for name in ("path", "pattern", "reason")}
    lines = {name: {"type": "integer", "minimum": 1} for name in ("first_line", "last_line")}
    parameters = {"type": "object", "properties": {**texts, **lines}, "required": ["path"]}
    return [
        {
            "type": "function",
            "function": {"name": f"tool_{number}", "description": described, "parameters": parameters},
        }
        for number in range(count)
    ]


_PLAIN = chat_request()
_STREAM = chat_request(stream=True)


async def json_completions(port: int, *, requests: int, connections: int, request: bytes = _PLAIN) -> None:
    """Send a JSON request over a number of kept-alive connections. Raise ValueError for any status but 200."""

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

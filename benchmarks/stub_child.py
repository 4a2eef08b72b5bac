"""A stub child that answers with constant bytes, so that its own cost does not hide the coordinator's.

It implements what the coordinator needs of the child API. A completion is constant JSON, or a stream of CHUNKS events,
one every GAP_S seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal

CHUNKS, GAP_S = 200, 0.01
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n"


def _event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    envelope = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 0, "model": "bench"}
    return b"data: " + json.dumps({**envelope, "choices": [choice]}).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _json_response(content: object) -> bytes:
    body = json.dumps(content).encode()
    return _HEAD % b"application/json" + b"content-length: %d\r\n\r\n" % len(body) + body


_CHOICE = {"index": 0, "message": {"role": "assistant", "content": "word " * 100}, "finish_reason": "stop"}
_COMPLETION = _json_response(
    {"id": "chatcmpl-bench", "object": "chat.completion", "created": 0, "model": "bench", "choices": [_CHOICE]}
)
_BEGIN = _HEAD % b"text/event-stream" + b"transfer-encoding: chunked\r\n\r\n"
_TOKEN = _chunk(_event("token "))
_END = _chunk(b"data: [DONE]\n\n") + _chunk(b"")


class Connection(asyncio.Protocol):
    """One connection: parse requests, possibly pipelined, and write constant responses."""

    def __init__(self, ready: bytes) -> None:
        self._ready = ready
        self._received = b""
        self._streams: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio.Protocol)."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete (asyncio.Protocol)."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            _, found, value = head.lower().partition(b"content-length:")
            length = int(value.partition(b"\r\n")[0]) if found else 0
            if len(rest) < length:
                return
            self._received = rest[length:]
            self._answer(head, rest[:length])

    def _answer(self, head: bytes, body: bytes) -> None:
        if not head.startswith(b"POST /v1/"):
            self._transport.write(self._ready)
        elif b'"stream": true' in body:
            task = asyncio.get_running_loop().create_task(self._stream())
            self._streams.add(task)
            task.add_done_callback(self._streams.discard)
        else:
            self._transport.write(_COMPLETION)

    async def _stream(self) -> None:
        self._transport.write(_BEGIN)
        for _ in range(CHUNKS):
            self._transport.write(_TOKEN)
            await asyncio.sleep(GAP_S)
        self._transport.write(_END)


async def _serve(port: int) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    ready = _json_response(
        {
            "status": "ready",
            "instance_id": os.environ.get("TABFLEET_INSTANCE_ID"),
            "models": ["bench"],
            "fresh": True,
        }
    )
    await asyncio.get_running_loop().create_server(lambda: Connection(ready), "127.0.0.1", port)
    await stopped.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server-port", type=int, required=True)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_known_args()[0].server_port))

"""Clients that wait for their answer, disconnect early, send half a request, or never read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import select
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import openai
from openai import AsyncOpenAI

from contract.api_error import code_of
from tests.chaos.verification import Ending, Result

KEY = "chaos-key"
# Documented error codes of the coordinator and its children; a 500 of the proxy itself is a bug.
PROPER = frozenset(
    {
        *("browser_lost", "capture_gap", "child_lost", "draining", "first_token_timeout", "login_expired"),
        *("none_ready", "page_broken", "prompt_rejected", "queue_full", "queue_timeout", "quota", "refused"),
        *("site_error", "starting", "stream_idle_timeout", "cancelled", "repeated_after_submission"),
        *("site_unreachable", "proxy_unreachable", "proxy_refused"),
        "request_timeout",  # on a busy machine, a client may not get to send its body for a second
    }
)


OF_CELLS = frozenset({"claim_lost", "not_queued"})
"""Codes of coordinators that claim their logins, or have others beside them."""


@dataclass(frozen=True)
class ClientRequest:
    """One request, and how the client behaves."""

    prompt: str
    model: str
    stream: bool
    behaviour: str  # a key of scenario.BEHAVIOURS
    extra: dict[str, Any] = field(default_factory=dict)  # more fields of the body
    receive_bytes: int = 4096  # SO_RCVBUF of a client that does not read

    def body(self) -> dict[str, Any]:
        """Return the JSON body."""
        messages = [{"role": "user", "content": self.prompt}]
        return {"model": self.model, "messages": messages, "stream": self.stream, **self.extra}


class Clients:
    """Send requests to one coordinator; a request that takes hang_after_s seconds counts as hung.

    With `behind_balancer` a cell may be killed while it answers: an error of the balancer's own, and a connection that
    breaks off in an answer, are then proper ends, too.
    """

    def __init__(
        self, port: int, *, hang_after_s: float, count: int = 4, key: str = KEY, behind_balancer: bool = False
    ) -> None:
        self._port, self._key, self._behind_balancer = port, key, behind_balancer
        self._hang_after_s = hang_after_s
        # As a user would create it, except for the connect timeout of 5 s: a busy machine takes longer, and
        # a coordinator that takes no connection is one that hangs.
        limits = openai.Timeout(600.0, connect=hang_after_s)
        self._openai = [
            AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, timeout=limits) for _ in range(count)
        ]

    async def close(self) -> None:
        """Close all connections."""
        for client in self._openai:
            await client.close()

    async def send(self, request: ClientRequest, rng: random.Random) -> Result:
        """Send a request and return how it ended."""
        try:
            async with asyncio.timeout(self._hang_after_s):
                ending, text = await self._send(request, rng)
        except TimeoutError:
            ending, text = Ending.HUNG, f"{request.behaviour}, {request.stream=}, {request.extra}"
        except (OSError, asyncio.IncompleteReadError) as error:
            ending, text = Ending.IMPROPER, f"{request.behaviour}: {error!r}"
        return Result(request.prompt, ending, text)

    async def _send(self, request: ClientRequest, rng: random.Random) -> tuple[Ending, str]:
        if request.behaviour == "wait":
            return await self._wait_for_answer(request, rng.choice(self._openai))
        if request.behaviour == "never_read":
            await self._never_read(request)
        else:
            await self._disconnect(request, rng)
        return Ending.LEFT, ""

    async def _wait_for_answer(self, request: ClientRequest, client: AsyncOpenAI) -> tuple[Ending, str]:
        try:
            return await (_read_stream if request.stream else _read_whole)(client, request)
        except openai.APIError as error:
            code = _code(error)
            if code in PROPER or (self._behind_balancer and (code in OF_CELLS or _of_balancer(error))):
                return Ending.REFUSED, code
            return Ending.IMPROPER, f"{error!r} {code}"
        except httpx.TransportError as error:
            return (Ending.REFUSED, "") if self._behind_balancer else (Ending.IMPROPER, repr(error))
        except json.JSONDecodeError as error:  # what the client makes of an error after white space
            code = str(code_of(error.doc.encode()) or "")
            return (Ending.REFUSED, code) if code in PROPER else (Ending.IMPROPER, f"{error!r} {error.doc[:200]!r}")
        except Exception as error:  # noqa: BLE001 - such as a connection that was closed in mid-stream
            return Ending.IMPROPER, repr(error)

    async def _disconnect(self, request: ClientRequest, rng: random.Random) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            data = self._encode(request)
            writer.write(data[: rng.randrange(len(data))] if request.behaviour == "partial" else data)
            await writer.drain()
            if request.behaviour != "partial":
                for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
                    if not await reader.read(200):
                        break
            if rng.random() < 0.5:
                _reset_on_close(writer.get_extra_info("socket"))
        finally:
            writer.transport.abort()

    async def _never_read(self, request: ClientRequest) -> None:
        """Send the request and read nothing until the server closes the connection. Raises TimeoutError.

        Where the server closed it with the last bytes in the kernel, their end waits behind them for a reader. So after
        half of the time those are read, and the end must come with them; a server that goes on sending has not closed.
        """
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, request.receive_bytes)
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, ("127.0.0.1", self._port))
            await loop.sock_sendall(connection, self._encode(request))
            patient_until = loop.time() + self._hang_after_s / 2
            # asyncio has no event for it while nothing is read.
            while not _closed_by_peer(connection) and loop.time() < patient_until:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            left, most = 0, _KERNEL_BYTES + 2 * request.receive_bytes
            with contextlib.suppress(ConnectionError):
                while not _closed_by_peer(connection) and (chunk := await loop.sock_recv(connection, 1 << 16)):
                    left += len(chunk)
                    if left > most:
                        raise TimeoutError

    def _encode(self, request: ClientRequest) -> bytes:
        body = json.dumps(request.body()).encode()
        lines = (
            "POST /v1/chat/completions HTTP/1.1",
            f"host: 127.0.0.1:{self._port}",
            "content-type: application/json",
            f"authorization: Bearer {self._key}",
            "connection: close",
            f"content-length: {len(body)}",
        )
        return "\r\n".join((*lines, "", "")).encode() + body


async def _read_whole(client: AsyncOpenAI, request: ClientRequest) -> tuple[Ending, str]:
    answer = await client.chat.completions.create(
        model=request.model, messages=[{"role": "user", "content": request.prompt}], extra_body=request.extra
    )
    return Ending.TEXT, answer.choices[0].message.content or ""


async def _read_stream(client: AsyncOpenAI, request: ClientRequest) -> tuple[Ending, str]:
    pieces, finished = [], False
    stream = await client.chat.completions.create(
        model=request.model,
        messages=[{"role": "user", "content": request.prompt}],
        extra_body=request.extra,
        stream=True,
    )
    async with stream:
        async for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")
            finished = finished or chunk.choices[0].finish_reason == "stop"
    if not finished:
        return Ending.IMPROPER, f"a stream without a finish reason: {''.join(pieces)[:100]!r}"
    return Ending.TEXT, "".join(pieces)


def _of_balancer(error: openai.APIError) -> bool:
    """Return whether no coordinator has said this: the connection broke, or the balancer had nobody to ask."""
    return isinstance(error, openai.APIConnectionError) or getattr(error, "status_code", None) in (502, 503, 504)


def _code(error: openai.APIError) -> str:
    """Return the code of an error in OpenAI's format, or "" if the body has another format."""
    body = error.body
    complete = isinstance(body, dict) and isinstance(body.get("message"), str)
    return str(error.code or "") if complete else ""


def _reset_on_close(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# https://docs.kernel.org/networking/ip-sysctl.html: the third is the most that a socket holds to be sent.
_KERNEL_BYTES: Final = int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2])


def _closed_by_peer(connection: socket.socket) -> bool:
    watch = select.poll()
    watch.register(connection, select.POLLRDHUP)
    return bool(watch.poll(0))

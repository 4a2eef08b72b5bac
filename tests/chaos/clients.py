"""Clients of every manner: those that wait for their answer, that leave, that never read."""

from __future__ import annotations

import asyncio
import json
import random
import select
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

import openai
from openai import AsyncOpenAI

from tests.chaos.evidence import Ending, Result

KEY = "chaos-key"
# Refusals and failures of the coordinator and of its children; a 500 of the proxy's own is a bug, not a refusal.
PROPER = frozenset(
    {
        *("browser_lost", "capture_gap", "child_lost", "draining", "first_token_timeout", "login_expired"),
        *("none_ready", "page_broken", "prompt_rejected", "queue_full", "queue_timeout", "quota", "refused"),
        *("site_error", "starting", "stream_idle_timeout", "cancelled"),
        "request_timeout",  # of a client that the machine kept from sending its body for a second
    }
)


@dataclass(frozen=True)
class Question:
    """One request as a client is to make it."""

    prompt: str
    model: str
    stream: bool
    manner: str  # "wait", "leave", "half" or "never read"
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of the body
    receive_bytes: int = 4096  # what the kernel takes for a client that does not read

    def body(self) -> dict[str, Any]:
        messages = [{"role": "user", "content": self.prompt}]
        return {"model": self.model, "messages": messages, "stream": self.stream, **self.extra}


class Clients:
    """Asks questions at one coordinator. Each call ends within hang_after_s seconds."""

    def __init__(self, port: int, *, hang_after_s: float, count: int = 4) -> None:
        self._port = port
        self._hang_after_s = hang_after_s
        # As a program makes it, but for the 5 s in which it wants to be connected: a busy machine takes longer, and
        # a coordinator that takes no connection is one that hangs.
        limits = openai.Timeout(600.0, connect=hang_after_s)
        self._openai = [
            AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, timeout=limits) for _ in range(count)
        ]

    async def close(self) -> None:
        for client in self._openai:
            await client.close()

    async def ask(self, question: Question, rng: random.Random) -> Result:
        try:
            async with asyncio.timeout(self._hang_after_s):
                ending, said = await self._ask(question, rng)
        except TimeoutError:
            ending, said = Ending.HUNG, f"{question.manner}, {question.stream=}, {question.extra}"
        except (OSError, asyncio.IncompleteReadError) as error:
            ending, said = Ending.IMPROPER, f"{question.manner}: {error!r}"
        return Result(question.prompt, ending, said)

    async def _ask(self, question: Question, rng: random.Random) -> tuple[Ending, str]:
        if question.manner == "wait":
            return await self._wait_for_answer(question, rng.choice(self._openai))
        if question.manner == "never read":
            await self._never_read(question)
        else:
            await self._leave(question, rng)
        return Ending.LEFT, ""

    # Those that wait

    async def _wait_for_answer(self, question: Question, client: AsyncOpenAI) -> tuple[Ending, str]:
        try:
            return await (_read_stream if question.stream else _read_whole)(client, question)
        except openai.APIError as error:
            code = _code(error)
            if code in PROPER:
                return Ending.REFUSED, code
            return Ending.IMPROPER, f"{error!r} {code}"
        except Exception as error:  # noqa: BLE001 - such as a connection that was cut in mid-stream
            return Ending.IMPROPER, repr(error)

    # Those that leave

    async def _leave(self, question: Question, rng: random.Random) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            request = self._request(question)
            writer.write(request[: rng.randrange(len(request))] if question.manner == "half" else request)
            await writer.drain()
            if question.manner != "half":
                for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
                    if not await reader.read(200):
                        break
            if rng.random() < 0.5:
                _reset_on_close(writer.get_extra_info("socket"))
        finally:
            writer.transport.abort()

    async def _never_read(self, question: Question) -> None:
        """Ask, and read nothing, until the server has had enough."""
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, question.receive_bytes)
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(connection, ("127.0.0.1", self._port))
            await loop.sock_sendall(connection, self._request(question))
            while not _closed_by_peer(connection):  # noqa: ASYNC110 - the kernel's news
                await asyncio.sleep(0.05)

    def _request(self, question: Question) -> bytes:
        body = json.dumps(question.body()).encode()
        lines = (
            "POST /v1/chat/completions HTTP/1.1",
            f"host: 127.0.0.1:{self._port}",
            "content-type: application/json",
            f"authorization: Bearer {KEY}",
            "connection: close",
            f"content-length: {len(body)}",
        )
        return "\r\n".join((*lines, "", "")).encode() + body


async def _read_whole(client: AsyncOpenAI, question: Question) -> tuple[Ending, str]:
    answer = await client.chat.completions.create(
        model=question.model, messages=[{"role": "user", "content": question.prompt}], extra_body=question.extra
    )
    return Ending.TEXT, answer.choices[0].message.content or ""


async def _read_stream(client: AsyncOpenAI, question: Question) -> tuple[Ending, str]:
    pieces, finished = [], False
    stream = await client.chat.completions.create(
        model=question.model,
        messages=[{"role": "user", "content": question.prompt}],
        extra_body=question.extra,
        stream=True,
    )
    async with stream:
        async for chunk in stream:
            pieces.append(chunk.choices[0].delta.content or "")
            finished = finished or chunk.choices[0].finish_reason == "stop"
    if not finished:
        return Ending.IMPROPER, f"a stream without an end: {''.join(pieces)[:100]!r}"
    return Ending.TEXT, "".join(pieces)


def _code(error: openai.APIError) -> str:
    """The code of an error in OpenAI's form; "" if it has none."""
    body = error.body
    complete = isinstance(body, dict) and isinstance(body.get("message"), str)
    return str(error.code or "") if complete else ""


def _reset_on_close(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _closed_by_peer(connection: socket.socket) -> bool:
    watch = select.poll()
    watch.register(connection, select.POLLRDHUP)
    return bool(watch.poll(0))

"""How the fake child answers a prompt: its faults, the pieces of an answer, their wire format."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract.run_folder import mark_submitted
from tests.coordinator.proxy.tiny_http import Cut, Exchange

# Of an error of the page; any other: 502.
STATUS = {"login_expired": 503, "site_unreachable": 503, "proxy_unreachable": 503, "quota": 429, "refused": 400}


@dataclass
class Behaviour:
    """How this child behaves; each field is off by default."""

    start_s: float = 0.0  # until it is ready
    never_ready: bool = False
    never_listen: bool = False
    exit_code: int | None = None  # exit with it: at the start, or now
    signal: int | None = None  # die by it: at the start, or now
    hang: bool = False  # the event loop stops: nothing answers any more
    ignore_term: bool = False
    ignore_kill: bool = False  # in a host: nor is its page closed at once
    linger: bool = False  # in a host: the host does not end without children
    full: bool = False  # in a host: the host takes no further child
    instance_id: str | None = None  # pretend to be another start
    unready: str | None = None  # the reason in /ready: browser_lost, login_expired, page_broken, quota ...
    detail: str | None = None
    rest_s: float | None = None
    session: dict[str, Any] | None = None  # the fields of its SessionReport
    login_expires_at: float | None = 4e9
    login_kept: bool = False
    refreshes: int = 0
    refresh_failures: int = 0
    warning: str | None = None
    ready_delay_s: float = 0.0  # /ready answers this late
    models: list[str] = field(default_factory=lambda: ["fake"])
    orphan: bool = False  # a "browser" in a session of its own, recorded, that outlives this process
    browser: bool = False  # the same, with the death signal that real ones have
    holds: bool = False  # the same, which notes in NAME.held that it has the login: see `fake_browser`
    holds_on: bool = False  # the same without the death signal: it outlives this process until somebody ends it
    close_s: float = 0.0  # what an orderly end takes; the "browser" goes on meanwhile
    say: str | None = None  # a line of output
    hold_mib: int = 0
    # requests
    tokens: int = 3
    token_s: float = 0.0
    first_token_s: float = 0.0
    error_status: int | None = None  # refuse with it, before submission
    site_error: str | None = None  # refuse with this code, after submission
    drop: str | None = None  # "before" or "after" the submission: close the connection without a head
    die_after: int | None = None  # SIGKILL to itself after this many tokens (0: after submission, before the head)
    hold: str | None = None  # after the first token, say no more until this file is there
    stall_after: int | None = None  # say no more after this many tokens
    keeps_limits: bool = False  # end a stall by FIRST_TOKEN_TIMEOUT_S, STREAM_IDLE_TIMEOUT_S, as real children do
    fail_after: int | None = None  # an error, in mid-stream as an event, after this many tokens
    keep_alive_s: float = 1.5  # something is sent this often at least; a real child: KEEP_ALIVE_S
    piece_bytes: int = 0  # pad each token to this length
    break_after: int | None = None  # cut the connection after this many tokens
    cancel_status: int = 200
    # checks of a site file
    check: str = "passed"  # the outcome of a check
    check_changed_by: str | None = None  # where the site file holds this, its line 3 is to blame


class Failed(Exception):
    """The answer ends with this error code and HTTP status."""

    def __init__(self, code: str, status: int) -> None:
        super().__init__(code)
        self.code, self.status = code, status


@dataclass
class Conversation:
    """One prompt and its answer."""

    run_dir: Path
    note: Callable[..., None]
    behaviour: Behaviour
    exchange: Exchange
    request_id: str

    async def run(self, body: dict[str, Any]) -> None:
        prompt = str(body["messages"][-1]["content"])
        try:
            token = self.submit(prompt)
        except OSError:  # as real children do: what cannot be noted is not sent
            await self.fail(Failed("page_broken", 502))
            return
        pieces = [digest(prompt), " ", token, *self.tokens()]
        try:
            await (self.stream(pieces) if body.get("stream") else self.answer_whole(pieces))
        except Failed as failure:
            await self.fail(failure)
        except (asyncio.CancelledError, ConnectionError):
            self.note("ledger", id=self.request_id, token=token, stopped=True)
            raise

    def tokens(self) -> list[str]:
        return [f" t{index}".ljust(self.behaviour.piece_bytes, ".") for index in range(self.behaviour.tokens)]

    def submit(self, prompt: str) -> str:
        if self.behaviour.drop == "before":
            raise Cut
        mark_submitted(self.run_dir, self.request_id)
        token = secrets.token_hex(8)
        entry = {"digest": digest(prompt), "token": token, "tokens": self.behaviour.tokens}
        self.note("ledger", id=self.request_id, **entry)
        if self.behaviour.drop == "after":
            raise Cut
        return token

    async def answer_whole(self, pieces: list[str]) -> None:
        headers = {"content_type": "application/json", "x_request_id": self.request_id}
        await self.keep_alive_until(self.last_is_due(len(pieces)), b"\n", headers)
        answer = completion(self.request_id, "".join(pieces))
        if self.exchange.begun:
            await self.exchange.send(json.dumps(answer).encode())
            await self.exchange.end()
        else:
            await self.exchange.answer(200, answer, x_request_id=self.request_id)

    async def last_is_due(self, pieces: int) -> None:
        for index in range(pieces):
            await self.piece_is_due(index)

    async def stream(self, pieces: list[str]) -> None:
        headers = {"x_request_id": self.request_id}
        for index, piece in enumerate(pieces):
            await self.keep_alive_until(self.piece_is_due(index), b": keep-alive\n\n", headers)
            await self.exchange.send(event(completion_chunk(self.request_id, piece)), **headers)
        await self.exchange.send(event(completion_chunk(self.request_id, None)) + b"data: [DONE]\n\n")
        await self.exchange.end()

    async def fail(self, failure: Failed) -> None:
        if self.exchange.begun:
            await self.exchange.send(event(error_body(failure.code)))
            await self.exchange.end()
        else:
            await error(self.exchange, failure.status, failure.code, x_should_retry="false")

    async def keep_alive_until(self, due: Coroutine[Any, Any, None], sign: bytes, headers: dict[str, str]) -> None:
        task = asyncio.ensure_future(due)
        try:
            while not (await asyncio.wait({task}, timeout=self.behaviour.keep_alive_s))[0]:
                await self.exchange.send(sign, **headers)
            task.result()
        finally:
            task.cancel()

    async def piece_is_due(self, index: int) -> None:
        """Wait until that piece is due, or fail as the behaviour says."""
        behaviour = self.behaviour
        if behaviour.site_error:
            raise Failed(behaviour.site_error, STATUS.get(behaviour.site_error, 502))
        if behaviour.die_after == index:
            os.kill(os.getpid(), signal.SIGKILL)
        if behaviour.break_after == index:
            raise Cut
        if behaviour.fail_after == index:
            raise Failed("site_error", 502)
        if behaviour.stall_after == index:
            await self.stall(index)
        while index and behaviour.hold and not Path(behaviour.hold).exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        await asyncio.sleep(behaviour.token_s if index else behaviour.first_token_s)

    async def stall(self, index: int) -> None:
        kind = "STREAM_IDLE" if index else "FIRST_TOKEN"
        limit_s = float(os.environ.get(f"{kind}_TIMEOUT_S", "inf")) if self.behaviour.keeps_limits else None
        try:
            await asyncio.wait_for(asyncio.Event().wait(), limit_s)
        except TimeoutError:
            raise Failed(f"{kind.lower()}_timeout", 504) from None


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def error(exchange: Exchange, status: int, code: str, **headers: str) -> None:
    await exchange.answer(status, error_body(code), **headers)


def error_body(code: str) -> dict[str, Any]:
    return {"error": {"message": f"fake: {code}", "type": "api_error", "param": None, "code": code}}


def event(content: Any) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


def completion(request_id: str, text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": request_id, "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice]}


def completion_chunk(request_id: str, piece: str | None) -> dict[str, Any]:
    delta = {} if piece is None else {"content": piece}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop" if piece is None else None}
    return {"id": request_id, "object": "chat.completion.chunk", "created": 0, "model": "fake", "choices": [choice]}

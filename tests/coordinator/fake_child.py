"""A child without a browser: a real process that speaks the child's whole contract, faults on command.

    python -m tests.coordinator.fake_child --server-port N --stream-port N --active-auth-json FOLDER/NAME.json ...

What it does from its start on is read from $FAKE_CHILD_DIR/NAME.json, if that is there; the fields of
`Behaviour` are the keys. While it runs, `POST /fake` with the same keys changes it, at once. Evidence goes to
$FAKE_CHILD_DIR as JSON lines: NAME.starts (one per start), NAME.ledger (one per submission and per stop), NAME.orphans
and NAME.browsers.

The model `fake` answers with the prompt's SHA-256 and a random token of the submission, which the ledger has too.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tests.coordinator.tiny_http import Cut, Exchange, serve

KEEP_ALIVE_AFTER_S = 10.0


@dataclass
class Behaviour:
    """What this child does, and fails to do."""

    start_s: float = 0.0  # until it is ready
    never_ready: bool = False
    never_listen: bool = False
    exit_code: int | None = None  # exit with it: at the start, or now
    signal: int | None = None  # die by it: at the start, or now
    hang: bool = False  # the event loop stops: nothing answers any more
    ignore_term: bool = False
    instance_id: str | None = None  # pretend to be another start
    unready: str | None = None  # the reason in /ready: browser_lost, login_expired, page_broken, quota ...
    detail: str | None = None
    rest_s: float | None = None
    ready_delay_s: float = 0.0  # /ready answers this late
    models: list[str] = field(default_factory=lambda: ["fake"])
    orphan: bool = False  # a "browser" in a session of its own, recorded, that outlives this process
    browser: bool = False  # the same, with the death signal that real ones have
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
    stall_after: int | None = None  # say no more after this many tokens
    break_after: int | None = None  # cut the connection after this many tokens
    cancel_status: int = 200


class FakeChild:
    """State and routes of the one child in this process."""

    def __init__(self, name: str, folder: Path | None) -> None:
        self.name = name
        self.folder = folder
        self.run_dir = Path(os.environ.get("TABFLEET_RUN_DIR", ".")).resolve()
        self.behaviour = Behaviour()
        self.ready_at = 0.0
        self.page = asyncio.Lock()
        self.running: dict[str, asyncio.Task[Any]] = {}
        self.stopping = asyncio.Event()
        self.ballast = bytearray()
        self.keys = read_keys()
        self.routes = {
            ("GET", "/live"): self.live,
            ("GET", "/ready"): self.ready,
            ("GET", "/health"): self.health,
            ("GET", "/v1/models"): self.models,
            ("POST", "/v1/chat/completions"): self.chat,
            ("POST", "/requests/cancel"): self.cancel,
            ("POST", "/fake"): self.fake,
        }

    # Behaviour

    def begin(self) -> None:
        plan = self.folder / f"{self.name}.json" if self.folder else None
        given = json.loads(plan.read_text()) if plan and plan.exists() else {}
        self.note("starts", pid=os.getpid(), generation=os.environ.get("TABFLEET_GENERATION"), at=time.time())
        self.behave(given)
        self.ready_at = time.monotonic() + self.behaviour.start_s

    def behave(self, change: dict[str, Any]) -> None:
        known = {one.name for one in fields(Behaviour)}
        if unknown := set(change) - known:
            raise ValueError(f"unknown behaviour: {unknown}")
        for key, value in change.items():
            setattr(self.behaviour, key, value)
        behaviour = self.behaviour
        if behaviour.say:
            sys.stderr.write(behaviour.say + "\n")
        if behaviour.hold_mib:
            self.ballast = bytearray(os.urandom(1 << 20) * behaviour.hold_mib)
        if behaviour.orphan:
            self.start_browser("orphans")
        if behaviour.browser:
            self.start_browser("browsers", "setpriv", "--pdeathsig", "KILL", "--")
        if behaviour.exit_code is not None:
            sys.stderr.flush()
            os._exit(behaviour.exit_code)
        if behaviour.signal is not None:
            os.kill(os.getpid(), behaviour.signal)
        if behaviour.hang:
            time.sleep(3600)

    def start_browser(self, kind: str, *chain: str) -> None:
        """Like a browser: a session of its own, which a group kill of this process does not reach."""
        process = subprocess.Popen([*chain, "sleep", "3600"], start_new_session=True)
        entry = {"pgid": process.pid, "start_time": start_time(process.pid)}
        write_atomically(self.run_dir / "processes.json", {"browser": entry})
        self.note(kind, pid=process.pid)

    def note(self, kind: str, **entry: Any) -> None:
        if self.folder:
            with (self.folder / f"{self.name}.{kind}").open("a") as file:
                file.write(json.dumps(entry) + "\n")

    # Health

    async def live(self, exchange: Exchange) -> None:
        await exchange.answer(200, {"status": "alive"})

    async def ready(self, exchange: Exchange) -> None:
        behaviour = self.behaviour
        if behaviour.ready_delay_s:
            await asyncio.sleep(behaviour.ready_delay_s)
        reason = self.reason()
        body = {
            "status": "unready" if reason else "ready",
            "reason": reason,
            "detail": behaviour.detail,
            "instance_id": behaviour.instance_id or os.environ.get("TABFLEET_INSTANCE_ID"),
            "generation": int(os.environ.get("TABFLEET_GENERATION", "0")),
            "busy": self.page.locked(),
            "models": behaviour.models,
            "site": "fake",
            "engine": "fake",
            "capture": "network",
            "login_expires_at": 4e9,
            "rest_s": behaviour.rest_s,
        }
        await exchange.answer(503 if reason else 200, body)

    def reason(self) -> str | None:
        starting = self.behaviour.never_ready or time.monotonic() < self.ready_at
        return self.behaviour.unready or ("starting" if starting else None)

    async def health(self, exchange: Exchange) -> None:
        status, text = (503, "Error") if self.reason() else (200, "OK")
        await exchange.answer(status, {"status": text, "message": text, "details": {}})

    async def fake(self, exchange: Exchange) -> None:
        self.behave(exchange.json())
        await exchange.answer(200, asdict(self.behaviour))

    # Requests

    def authorised(self, exchange: Exchange) -> bool:
        token = os.environ.get("TABFLEET_CONTROL_TOKEN")
        if token and exchange.headers.get("x-tabfleet-token") == token:
            return True
        given = exchange.headers.get("x-api-key") or exchange.headers.get("authorization", "").removeprefix("Bearer ")
        return not self.keys or given in self.keys or f"sha256:{digest(given)}" in self.keys

    async def models(self, exchange: Exchange) -> None:
        models = [{"id": model, "object": "model"} for model in self.behaviour.models]
        await exchange.answer(200, {"object": "list", "data": models})

    async def cancel(self, exchange: Exchange) -> None:
        if self.behaviour.cancel_status != 200:
            await error(exchange, self.behaviour.cancel_status, "page_broken")
            return
        task = self.running.get(exchange.path.split("/")[2])
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await exchange.answer(200, {"fresh": True})

    async def chat(self, exchange: Exchange) -> None:
        body = exchange.json()
        request_id = exchange.headers.get("x-request-id") or secrets.token_hex(8)
        task = asyncio.current_task()
        assert task is not None
        self.running[request_id] = task
        try:
            async with self.page:
                if body.get("model") not in self.behaviour.models:
                    await error(exchange, 404, "model_not_found")
                elif self.behaviour.error_status is not None:
                    await error(exchange, self.behaviour.error_status, "starting")
                else:
                    await self.converse(exchange, request_id, body)
        finally:
            self.running.pop(request_id, None)

    async def converse(self, exchange: Exchange, request_id: str, body: dict[str, Any]) -> None:
        prompt = str(body["messages"][-1]["content"])
        token = self.submit(request_id, prompt)
        pieces = [digest(prompt), " ", token, *(f" t{index}" for index in range(self.behaviour.tokens))]
        try:
            if self.behaviour.site_error:
                await error(exchange, 502, self.behaviour.site_error, x_should_retry="false")
            elif body.get("stream"):
                await self.stream(exchange, request_id, pieces)
            else:
                for index in range(len(pieces)):
                    await self.piece_is_due(index)
                await exchange.answer(200, completion(request_id, "".join(pieces)), x_request_id=request_id)
        except (asyncio.CancelledError, ConnectionError):
            self.note("ledger", id=request_id, token=token, stopped=True)
            raise

    def submit(self, request_id: str, prompt: str) -> str:
        if self.behaviour.drop == "before":
            raise Cut
        with (self.run_dir / "submitted").open("a") as file:
            file.write(request_id + "\n")
        token = secrets.token_hex(8)
        self.note("ledger", id=request_id, digest=digest(prompt), token=token)
        if self.behaviour.drop == "after":
            raise Cut
        return token

    async def stream(self, exchange: Exchange, request_id: str, pieces: list[str]) -> None:
        for index, piece in enumerate(pieces):
            await self.keep_alive_until(exchange, self.piece_is_due(index))
            await exchange.send(event(completion_chunk(request_id, piece)), x_request_id=request_id)
        await exchange.send(event(completion_chunk(request_id, None)) + b"data: [DONE]\n\n")
        await exchange.end()

    async def keep_alive_until(self, exchange: Exchange, due: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(due)
        try:
            while not (await asyncio.wait({task}, timeout=KEEP_ALIVE_AFTER_S))[0]:
                await exchange.send(b": keep-alive\n\n")
            task.result()
        finally:
            task.cancel()

    async def piece_is_due(self, index: int) -> None:
        """Wait until it is time for that piece, or do what is to happen instead."""
        behaviour = self.behaviour
        if behaviour.die_after == index:
            os.kill(os.getpid(), signal.SIGKILL)
        if behaviour.break_after == index:
            raise Cut
        if behaviour.stall_after == index:
            await asyncio.Event().wait()
        await asyncio.sleep(behaviour.token_s if index else behaviour.first_token_s)

    async def route(self, exchange: Exchange) -> None:
        method, path = exchange.method, exchange.path.partition("?")[0]
        if method == "POST" and path.startswith("/requests/") and path.endswith("/cancel"):
            path = "/requests/cancel"
        handler = self.routes.get((method, path))
        if handler is None:
            await error(exchange, 404, "not_found")
        elif path.startswith(("/v1/", "/requests/")) and not self.authorised(exchange):
            await error(exchange, 401, "invalid_api_key")
        else:
            await handler(exchange)

    def terminate(self) -> None:
        if not self.behaviour.ignore_term:
            self.stopping.set()


def read_keys() -> set[str]:
    path = os.environ.get("KEY_FILE_PATH")
    lines = Path(path).read_text().splitlines() if path else []
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def write_atomically(path: Path, content: Any) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(content))
    draft.rename(path)


async def error(exchange: Exchange, status: int, code: str, **headers: str) -> None:
    body = {"error": {"message": f"fake: {code}", "type": "api_error", "param": None, "code": code}}
    await exchange.answer(status, body, **headers)


def event(content: Any) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


def completion(request_id: str, text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": request_id, "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice]}


def completion_chunk(request_id: str, piece: str | None) -> dict[str, Any]:
    delta = {} if piece is None else {"content": piece}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop" if piece is None else None}
    return {"id": request_id, "object": "chat.completion.chunk", "created": 0, "model": "fake", "choices": [choice]}


async def serve_until_stopped(child: FakeChild, port: int) -> int:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, child.terminate)
    if not child.behaviour.never_listen:
        try:
            await serve(child.route, port)
        except OSError:
            sys.stderr.write(f"port {port} is in use\n")
            return 69
    await child.stopping.wait()
    return 0


async def run(arguments: argparse.Namespace) -> int:
    folder = os.environ.get("FAKE_CHILD_DIR")
    child = FakeChild(arguments.active_auth_json.stem, Path(folder) if folder else None)
    child.begin()
    return await serve_until_stopped(child, arguments.server_port)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--server-port", type=int, required=True)
    parser.add_argument("--stream-port", type=int, required=True)
    parser.add_argument("--active-auth-json", type=Path, required=True)
    arguments, _ = parser.parse_known_args()
    parent = os.environ.get("TABFLEET_PARENT_PID")
    if parent and os.getppid() != int(parent):
        return 75
    return asyncio.run(run(arguments))


if __name__ == "__main__":
    sys.exit(main())

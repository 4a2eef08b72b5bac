"""A child without a browser: a real process that speaks the child's whole contract, faults on command.

    python tests/coordinator/fake_child.py --server-port N --stream-port N --active-auth-json FOLDER/NAME.json ...

What it does from its start on is read from $FAKE_CHILD_DIR/NAME.json, if that is there; the fields of
`Behaviour` are the keys. While it runs, `POST /fake` with the same keys changes it, at once. Evidence goes to
$FAKE_CHILD_DIR as JSON lines: NAME.starts (one per start), NAME.ledger (one per submission and per stop), NAME.orphans.

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
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from aiohttp import web

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
    orphan: bool = (
        False  # a "browser" in a session of its own, recorded in processes.json, that nothing but a kill ends
    )
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
            self.start_orphan()
        if behaviour.exit_code is not None:
            sys.stderr.flush()
            os._exit(behaviour.exit_code)
        if behaviour.signal is not None:
            os.kill(os.getpid(), behaviour.signal)
        if behaviour.hang:
            time.sleep(3600)

    def start_orphan(self) -> None:
        """Like a browser: a session of its own, which a group kill of the child does not reach."""
        process = subprocess.Popen(["sleep", "3600"], start_new_session=True, stdout=sys.stdout, stderr=sys.stderr)
        entry = {"pgid": process.pid, "start_time": start_time(process.pid)}
        write_atomically(self.run_dir / "processes.json", {"browser": entry})
        self.note("orphans", pid=process.pid)

    def note(self, kind: str, **entry: Any) -> None:
        if self.folder:
            with (self.folder / f"{self.name}.{kind}").open("a") as file:
                file.write(json.dumps(entry) + "\n")

    # Health

    async def live(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(self, _: web.Request) -> web.Response:
        behaviour = self.behaviour
        if behaviour.ready_delay_s:
            await asyncio.sleep(behaviour.ready_delay_s)
        starting = behaviour.never_ready or time.monotonic() < self.ready_at
        reason = behaviour.unready or ("starting" if starting else None)
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
        return web.json_response(body, status=503 if reason else 200)

    async def health(self, request: web.Request) -> web.Response:
        answer = await self.ready(request)
        status = "OK" if answer.status == 200 else "Error"
        return web.json_response({"status": status, "message": status, "details": {}}, status=answer.status)

    async def fake(self, request: web.Request) -> web.Response:
        self.behave(await request.json())
        return web.json_response(asdict(self.behaviour))

    # Requests

    def authorised(self, request: web.Request) -> bool:
        token = os.environ.get("TABFLEET_CONTROL_TOKEN")
        if token and request.headers.get("x-tabfleet-token") == token:
            return True
        given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        return not self.keys or given in self.keys or f"sha256:{digest(given)}" in self.keys

    async def models(self, request: web.Request) -> web.Response:
        if not self.authorised(request):
            return error(401, "invalid_api_key")
        return web.json_response(
            {"object": "list", "data": [{"id": m, "object": "model"} for m in self.behaviour.models]}
        )

    async def cancel(self, request: web.Request) -> web.Response:
        if not self.authorised(request):
            return error(401, "invalid_api_key")
        if self.behaviour.cancel_status != 200:
            return error(self.behaviour.cancel_status, "page_broken")
        task = self.running.get(request.match_info["id"])
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        return web.json_response({"fresh": True})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        if not self.authorised(request):
            return error(401, "invalid_api_key")
        body = await request.json()
        if body.get("model") not in self.behaviour.models:
            return error(404, "model_not_found")
        request_id = request.headers.get("x-request-id") or secrets.token_hex(8)
        task = asyncio.current_task()
        assert task is not None
        self.running[request_id] = task
        try:
            async with self.page:
                return await self.answer(request, request_id, body)
        finally:
            self.running.pop(request_id, None)

    async def answer(self, request: web.Request, request_id: str, body: dict[str, Any]) -> web.StreamResponse:
        behaviour = self.behaviour
        if behaviour.error_status is not None:
            return error(behaviour.error_status, "starting")
        if behaviour.drop == "before":
            return cut(request)
        prompt = str(body["messages"][-1]["content"])
        token = self.submit(request_id, prompt)
        try:
            if behaviour.drop == "after":
                return cut(request)
            if behaviour.site_error:
                return error(502, behaviour.site_error, {"x-should-retry": "false"})
            if behaviour.die_after == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            whole = [digest(prompt), " ", token, *(f" t{i}" for i in range(behaviour.tokens))]
            if body.get("stream"):
                return await self.stream(request, request_id, whole)
            text = "".join([piece async for piece in self.pieces(whole)])
            return web.json_response(completion(request_id, text), headers={"x-request-id": request_id})
        except (asyncio.CancelledError, ConnectionResetError):
            self.note("ledger", id=request_id, token=token, stopped=True)
            raise

    def submit(self, request_id: str, prompt: str) -> str:
        with (self.run_dir / "submitted").open("a") as file:
            file.write(request_id + "\n")
        token = secrets.token_hex(8)
        self.note("ledger", id=request_id, digest=digest(prompt), token=token)
        return token

    async def pieces(self, whole: list[str]) -> AsyncIterator[str]:
        for index, piece in enumerate(whole):
            await asyncio.sleep(self.behaviour.token_s if index else self.behaviour.first_token_s)
            if self.behaviour.stall_after == index:
                await asyncio.Event().wait()
            yield piece

    async def stream(self, request: web.Request, request_id: str, whole: list[str]) -> web.StreamResponse:
        headers = {"content-type": "text/event-stream", "x-request-id": request_id}
        response = web.StreamResponse(headers=headers)
        pieces = self.pieces(whole)
        pending = asyncio.ensure_future(anext(pieces))
        sent = 0
        try:
            while True:
                done, _ = await asyncio.wait({pending}, timeout=KEEP_ALIVE_AFTER_S)
                if not response.prepared:
                    await response.prepare(request)
                if not done:
                    await response.write(b": keep-alive\n\n")
                    continue
                piece = pending.result()
                await response.write(event(completion_chunk(request_id, piece)))
                sent += 1
                if self.behaviour.die_after == sent:
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.behaviour.break_after == sent:
                    return cut(request)
                pending = asyncio.ensure_future(anext(pieces))
        except StopAsyncIteration:
            await response.write(event(completion_chunk(request_id, None)) + b"data: [DONE]\n\n")
            return response
        finally:
            pending.cancel()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/live", self.live)
        app.router.add_get("/ready", self.ready)
        app.router.add_get("/health", self.health)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/requests/{id}/cancel", self.cancel)
        app.router.add_post("/fake", self.fake)
        return app

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


def error(status: int, code: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": f"fake: {code}", "type": "api_error", "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


def cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def event(content: Any) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


def completion(request_id: str, text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": request_id, "object": "chat.completion", "created": 0, "model": "fake", "choices": [choice]}


def completion_chunk(request_id: str, piece: str | None) -> dict[str, Any]:
    delta = {} if piece is None else {"content": piece}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop" if piece is None else None}
    return {"id": request_id, "object": "chat.completion.chunk", "created": 0, "model": "fake", "choices": [choice]}


async def serve(child: FakeChild, port: int) -> int:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, child.terminate)
    runner = web.AppRunner(child.app(), keepalive_timeout=75, handler_cancellation=True, access_log=None)
    await runner.setup()
    if not child.behaviour.never_listen:
        try:
            await web.TCPSite(runner, "127.0.0.1", port, shutdown_timeout=0.1).start()
        except OSError:
            sys.stderr.write(f"port {port} is in use\n")
            return 69
    await child.stopping.wait()
    await runner.cleanup()
    return 0


async def run(arguments: argparse.Namespace) -> int:
    folder = os.environ.get("FAKE_CHILD_DIR")
    child = FakeChild(arguments.active_auth_json.stem, Path(folder) if folder else None)
    child.begin()
    return await serve(child, arguments.server_port)


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

"""A child without a browser: a real process that speaks the child's whole contract, faults on command.

    python -m tests.coordinator.fake_child --server-port N --stream-port N --active-auth-json FOLDER/NAME.json ...
    python -m tests.coordinator.fake_child --stream-port N --host FD ...    see `fake_host`

What it does from its start on is read from $FAKE_CHILD_DIR/NAME.json, if that is there; the fields of
`Behaviour` are the keys. While it runs, `POST /fake` with the same keys changes it, at once. Evidence goes to
$FAKE_CHILD_DIR as JSON lines: NAME.starts (one per start), NAME.ledger (one per submission and per stop), NAME.orphans
and NAME.browsers; NAME.held has the notes of `fake_browser`. A request's own body may hold `"fake"`, with the keys
under "requests" that count for it alone.

The model `fake` answers with the prompt's SHA-256 and a random token of the submission, which the ledger has too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from contract import child_environment
from contract.child_api import (
    MODEL_HEADER,
    READY_PATH,
    REQUEST_ID_HEADER,
    TOKEN_HEADER,
    Readiness,
    SessionReport,
    UnreadyReason,
)
from contract.dialects.chat import CHAT
from contract.exit_codes import ExitCode
from contract.processes import ProcessIdentity
from contract.run_folder import write_processes
from contract.site_check import CHECK_PATH, CheckOutcome, SiteCheck
from tests.coordinator.fake_answer import Behaviour, Conversation, error
from tests.coordinator.proxy.tiny_http import Exchange, serve
from tests.support import DIES_WITH_PARENT

if TYPE_CHECKING:
    from contract.keys import KeyStore


SLEEPER = ("sh", "-c", "read -r go && echo begun && exec sleep 3600 </dev/null >/dev/null")
BROWSERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "orphan": ("orphans", ()),
    "browser": ("browsers", DIES_WITH_PARENT),
    "holds": ("browsers", DIES_WITH_PARENT),
    "holds_on": ("orphans", ()),
}
OF_LOGIN = ("login_expires_at", "login_kept", "refreshes", "refresh_failures", "warning")


@dataclass(frozen=True)
class Start:
    """What a child is told of one start: by its environment, or by an order to its host."""

    name: str
    run_dir: Path
    site: str | None = None
    site_shown: str | None = None
    instance_id: str | None = None
    generation: int = 0
    control_token: str | None = None
    site_url: str | None = None

    @classmethod
    def of_process(cls, name: str, site: str | None) -> Start:
        told = os.environ.get
        return cls(
            name,
            Path(told(child_environment.RUN_DIR, ".")).resolve(),
            site,
            told(child_environment.SITE_FILE),
            told(child_environment.INSTANCE_ID),
            int(told(child_environment.GENERATION, "0")),
            told(child_environment.CONTROL_TOKEN),
            told("SITE_URL"),
        )


class FakeChild:
    """State and routes of one child, alone in its process or one of several in a host."""

    def __init__(self, start: Start, folder: Path | None, say: Callable[[str], object]) -> None:
        self.start = start
        self.name = start.name
        self.site = start.site
        self.folder = folder
        self.say = say
        self.run_dir = start.run_dir
        self.behaviour = Behaviour()
        self.exit: Callable[[int], object] = leave_process
        self.ready_at = 0.0
        self.page = asyncio.Lock()
        self.running: dict[str, asyncio.Task[Any]] = {}
        self.cancelled_early: set[str] = set()  # before they came
        self.stopping = asyncio.Event()
        self.ballast = bytearray()
        self.browsers: list[subprocess.Popen[bytes]] = []
        self.routes = {
            ("GET", "/live"): self.live,
            ("GET", READY_PATH): self.ready,
            ("GET", "/health"): self.health,
            ("GET", "/v1/models"): self.models,
            ("POST", CHAT.path): self.chat,
            ("POST", "/requests/cancel"): self.cancel,
            ("POST", CHECK_PATH): self.check,
            ("POST", "/fake"): self.fake,
        }

    # Behaviour

    def begin(self) -> None:
        plan = self.folder / f"{self.name}.json" if self.folder else None
        given = json.loads(plan.read_text()) if plan and plan.exists() else {}
        surroundings = self.run_dir / "surroundings.json"
        self.note(
            "starts",
            pid=os.getpid(),
            generation=str(self.start.generation),
            token=self.start.control_token,
            at=time.time(),
            site=self.start.site_shown or self.site,
            site_url=self.start.site_url,
            surroundings=json.loads(surroundings.read_text()) if surroundings.exists() else None,
        )
        if self.site and Path(self.site).is_file():
            self.note("sites", text=Path(self.site).read_text(), shown=self.start.site_shown)
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
            self.say(behaviour.say + "\n")
        if behaviour.hold_mib:
            self.ballast = bytearray(os.urandom(1 << 20) * behaviour.hold_mib)
        for option, (kind, chain) in BROWSERS.items():
            if change.get(option):
                command = self.holder() if option.startswith("holds") else SLEEPER
                self.start_browser(kind, *chain, command=command)
        if behaviour.exit_code is not None:
            self.exit(behaviour.exit_code)
        if behaviour.signal is not None:
            os.kill(os.getpid(), behaviour.signal)
        if behaviour.hang:
            time.sleep(3600)

    def holder(self) -> tuple[str, ...]:
        """The command of a "browser" that notes that it has the login."""
        assert self.folder is not None
        program = Path(__file__).with_name("fake_browser.py")
        file, instance = self.folder / f"{self.name}.held", self.start.instance_id or "?"
        return (sys.executable, "-I", "-S", str(program), str(file), instance)

    def start_browser(self, kind: str, *chain: str, command: Sequence[str]) -> None:
        """Like a browser: a session of its own, which a group kill of this process does not reach."""
        # It lives on only once it has been recorded: a child that is killed in between must not leave a process behind
        # that nobody can know of. Real browsers have the death signal for that.
        process = subprocess.Popen(
            [*chain, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.browsers.append(process)
        identity = ProcessIdentity.of(process.pid)
        assert identity is not None
        of_process = os.environ.get(child_environment.RUN_DIR)  # a host's, where it is in one
        write_processes(Path(of_process) if of_process else self.run_dir, {"browser": identity})
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(b"go\n")
        assert process.stdout is not None
        with process.stdout as pipe:
            pipe.readline()  # it has begun
        self.note(kind, pid=process.pid)

    def end_browsers(self) -> None:
        """End those that this child has started, where its process lives on."""
        for browser in self.browsers:
            browser.kill()
            browser.wait()

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
        readiness = Readiness(
            reason,
            detail=behaviour.detail,
            instance_id=behaviour.instance_id or self.start.instance_id,
            generation=self.start.generation,
            busy=self.page.locked(),
            models=tuple(behaviour.models),
            site="fake",
            engine="fake",
            capture="network",
            rest_s=behaviour.rest_s,
            session=SessionReport.from_json(behaviour.session),
            **{key: getattr(behaviour, key) for key in OF_LOGIN},
        )
        await exchange.answer(503 if reason else 200, readiness.to_json())

    def reason(self) -> UnreadyReason | None:
        if self.behaviour.unready:
            return UnreadyReason(self.behaviour.unready)
        starting = self.behaviour.never_ready or time.monotonic() < self.ready_at
        return UnreadyReason.STARTING if starting else None

    async def health(self, exchange: Exchange) -> None:
        status, text = (503, "Error") if self.reason() else (200, "OK")
        await exchange.answer(status, {"status": text, "message": text, "details": {}})

    async def fake(self, exchange: Exchange) -> None:
        self.behave(exchange.json())
        await exchange.answer(200, asdict(self.behaviour))

    # Requests

    def authorised(self, exchange: Exchange) -> bool:
        token = self.start.control_token
        if token and exchange.headers.get(TOKEN_HEADER) == token:
            return True
        given = exchange.headers.get("x-api-key") or exchange.headers.get("authorization", "").removeprefix("Bearer ")
        keys = read_keys()
        return not keys or keys.verify(given)

    async def models(self, exchange: Exchange) -> None:
        models = [{"id": model, "object": "model"} for model in self.behaviour.models]
        await exchange.answer(200, {"object": "list", "data": models})

    async def cancel(self, exchange: Exchange) -> None:
        if self.behaviour.cancel_status != 200:
            await error(exchange, self.behaviour.cancel_status, "page_broken")
            return
        request_id = exchange.path.split("/")[2]
        task = self.running.get(request_id)
        if task is None:
            self.cancelled_early.add(request_id)
        else:
            task.cancel()
            await asyncio.wait({task})
        await exchange.answer(200, {"fresh": True})

    async def chat(self, exchange: Exchange) -> None:
        body = exchange.json()
        request_id = exchange.headers.get(REQUEST_ID_HEADER) or secrets.token_hex(8)
        if request_id in self.cancelled_early:
            await error(exchange, 503, "cancelled")
            return
        task = asyncio.current_task()
        assert task is not None
        self.running[request_id] = task
        try:
            async with self.page:
                model = unquote(exchange.headers.get(MODEL_HEADER, "")) or body.get("model")
                if model not in self.behaviour.models:
                    await error(exchange, 404, "model_not_found")
                    return
                own = body.get("fake")
                behaviour = replace(self.behaviour, **own) if own else self.behaviour
                if behaviour.error_status is not None:
                    await error(exchange, behaviour.error_status, "starting")
                else:
                    await Conversation(self.run_dir, self.note, behaviour, exchange, request_id).run(body)
        finally:
            self.running.pop(request_id, None)

    async def check(self, exchange: Exchange) -> None:
        body, behaviour = exchange.json(), self.behaviour
        found = SiteCheck(CheckOutcome(behaviour.check), file=body["file"])
        if behaviour.check_changed_by and behaviour.check_changed_by in body["text"]:
            found = replace(found, outcome=CheckOutcome.CHANGED, step="input", line=3, key="input.selector")
            found = replace(found, selector="#gone")
        self.note("checks", text=body["text"], outcome=found.outcome)
        await exchange.answer(200, found.to_json())

    async def route(self, exchange: Exchange) -> None:
        method, path = exchange.method, exchange.path.partition("?")[0]
        if method == "POST" and path.startswith("/requests/") and path.endswith("/cancel"):
            path = "/requests/cancel"
        handler = self.routes.get((method, path))
        if handler is None:
            await error(exchange, 404, "not_found")
        elif path.startswith(("/v1/", "/requests/", CHECK_PATH)) and not self.authorised(exchange):
            await error(exchange, 401, "invalid_api_key")
        else:
            await handler(exchange)

    def terminate(self) -> None:
        if not self.behaviour.ignore_term:
            asyncio.get_running_loop().call_later(self.behaviour.close_s, self.stopping.set)


def leave_process(code: int) -> None:
    sys.stderr.flush()
    os._exit(code)


def read_keys() -> KeyStore:
    """The keys that the coordinator wrote; anew each time, because a reload may replace them."""
    # Here, for it takes longer than all else that a child imports, hundreds are started, and few ever need it.
    from contract.keys import KeyStore

    path = os.environ.get(child_environment.KEY_FILE_PATH)
    return KeyStore.from_file(Path(path)) if path else KeyStore()


async def serve_until_stopped(child: FakeChild, port: int) -> int:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, child.terminate)
    if not child.behaviour.never_listen:
        try:
            await serve(child.route, port)
        except OSError:
            sys.stderr.write(f"port {port} is in use\n")
            return ExitCode.PORT_IN_USE
    await child.stopping.wait()
    return 0


async def run(arguments: argparse.Namespace) -> int:
    folder = os.environ.get("FAKE_CHILD_DIR")
    start = Start.of_process(arguments.active_auth_json.stem, arguments.site)
    child = FakeChild(start, Path(folder) if folder else None, sys.stderr.write)
    child.begin()
    return await serve_until_stopped(child, arguments.server_port)


def main() -> int:
    deadline_file = os.environ.get(child_environment.CLAIM_DEADLINE_FILE)
    if deadline_file:
        # Here, for few tests have a fence. What stands for a browser has the death signal, and needs no other.
        from browser.process.claim_watch import watch_claim
        from contract.claim_deadline import ClaimDeadline

        claim = ClaimDeadline(Path(deadline_file))
        if claim.is_over:
            return ExitCode.CLAIM_OVER
        watch_claim(claim, lambda: None)
    if "--host" in sys.argv:
        # Here, for the host is made of children, and a child that is alone needs none of it.
        from tests.coordinator import fake_host

        return fake_host.main()
    parser = argparse.ArgumentParser()
    parser.add_argument("--server-port", type=int, required=True)
    parser.add_argument("--stream-port", type=int, required=True)
    parser.add_argument("--active-auth-json", type=Path, required=True)
    parser.add_argument("--site")
    arguments, _ = parser.parse_known_args()
    parent = os.environ.get(child_environment.PARENT_PID)
    if parent and os.getppid() != int(parent):
        return ExitCode.PARENT_GONE
    return asyncio.run(run(arguments))


if __name__ == "__main__":
    sys.exit(main())

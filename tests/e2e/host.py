"""A host of several logins that a test orders about as the coordinator does: `launch_camoufox.py --host`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from contract.child_api import TOKEN_HEADER
from contract.host_orders import ChildOrder, End, Ended, Ending, Full, Start, receive_news, send, socket_pair
from demo.accounts import LoginKind
from tests.e2e.fleet import ROOT, Site, end, eventually, fetch, new_login
from tests.support import DIES_WITH_PARENT
from tests.support.ports import free_range
from tests.support.waiting import HANG_LIMIT_S

KINDS: dict[str, LoginKind] = {"ada": "rotating"}
"""Her cookie is another after each load of the page, so that her session is one to be saved."""


@dataclass
class Child:
    """One child of a host: what it was told, and what is known of it."""

    order: ChildOrder
    log: Path
    code: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.order.api_port}"

    def readiness(self) -> dict[str, Any]:
        """Return the body of its `/ready`, empty while nobody listens."""
        try:
            answer = fetch(f"{self.url}/ready")[1]
        except OSError:
            return {}
        assert isinstance(answer, dict)
        return answer

    def ask(self, prompt: str, request_id: str = "request-1") -> Iterator[str]:
        """Send a prompt, and yield the answer's text as it streams."""
        connection = HTTPConnection("127.0.0.1", self.order.api_port, timeout=HANG_LIMIT_S)
        body = {"model": "demo-small", "stream": True, "messages": [{"role": "user", "content": prompt}]}
        headers = {
            "content-type": "application/json",
            "x-request-id": request_id,
            TOKEN_HEADER: self.order.control_token,
        }
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        with contextlib.closing(connection):
            for line in iter(response.readline, b""):
                data = line.removeprefix(b"data: ").strip()
                if data == b"[DONE]":
                    return
                if line.startswith(b"data: "):  # else it is a comment, which keeps the connection alive
                    event = json.loads(data)
                    assert "error" not in event, event
                    yield event["choices"][0]["delta"].get("content", "")
        raise AssertionError("the answer has no end")


@dataclass
class Host:
    """A running host, the coordinator's end of its orders, and its children by their users' names."""

    process: subprocess.Popen[bytes]
    orders: Any
    folder: Path
    api_port: int
    children: dict[str, Child] = field(default_factory=dict)
    full: bool = False
    closed: bool = False

    @property
    def run_dir(self) -> Path:
        return self.folder / "host"

    def start(self, site: Site, user: str, state: Mapping[str, Any] | None = None) -> Child:
        """Order a child for a new login of this user."""
        run_dir = self.folder / user
        run_dir.mkdir(mode=0o700)
        (run_dir / "submitted").touch(mode=0o600)
        profile = self.folder / f"{user}.json"
        profile.write_text(json.dumps(state or new_login(site, user, KINDS.get(user, "cookie"))))
        number = len(self.children)
        order = ChildOrder(
            name=user,
            profile=profile,
            site="demo",
            run_dir=run_dir,
            api_port=self.api_port + number,
            generation=1,
            instance_id=f"instance-of-{user}",
            control_token=f"token-of-{user}",
        )
        child = self.children[user] = Child(order, self.folder / f"{user}.log")
        with child.log.open("wb") as log:
            send(self.orders, Start(start=order), log.fileno())
        return child

    def serve(self, site: Site, *users: str) -> None:
        """Order a child for a new login of each of these users, and wait until all are ready."""
        for user in users:
            self.start(site, user)
        self.wait_ready(*users)

    def order_end(self, user: str, how: Ending) -> None:
        send(self.orders, End(end=f"instance-of-{user}", how=how))

    def read_news(self) -> None:
        """Take what the host has told."""
        while not self.closed:
            try:
                news = receive_news(self.orders)
            except BlockingIOError:
                return
            if news is None:
                self.closed = True
            elif isinstance(news, Full):
                self.full = True
            elif isinstance(news, Ended):
                (child,) = [child for child in self.children.values() if child.order.instance_id == news.ended]
                assert child.code is None
                child.code = news.code

    def wait_ended(self, *users: str) -> list[int | None]:
        """Wait until these children have ended; return their exit codes."""

        def seen() -> bool:
            self.read_news()
            return all(self.children[user].code is not None for user in users)

        eventually(seen, timeout_s=HANG_LIMIT_S, what=f"the end of {users}")
        return [self.children[user].code for user in users]

    def wait_ready(self, *users: str) -> None:
        """Wait until these children's pages are ready."""

        def unready() -> list[str]:
            found = {user: self.children[user].readiness() for user in users}
            return [f"{user}: {body}" for user, body in found.items() if body.get("status") != "ready"]

        eventually(lambda: not unready(), timeout_s=60, what=f"readiness of {users}")


@contextlib.contextmanager
def running_host(site: Site, folder: Path, engine: str = "chromium", **environment: str) -> Iterator[Host]:
    """A host that runs as a process, with these variables besides its usual ones."""
    folder.mkdir()
    run_dir = folder / "host"
    (run_dir / "tmp").mkdir(mode=0o700, parents=True)
    ours, theirs = socket_pair()
    base = free_range(12)
    command = ["launch_camoufox.py", "--engine", engine, "--stream-port", str(base), "--host", str(theirs.fileno())]
    given = {
        "SITE_URL": f"{site.url}/any/chat",
        "TABFLEET_RUN_DIR": str(run_dir),
        "TMPDIR": str(run_dir / "tmp"),
        **environment,
    }
    with (folder / "host.log").open("wb") as log:
        process = subprocess.Popen(
            [*DIES_WITH_PARENT, sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **given},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    theirs.close()
    host = Host(process, ours, folder, base + 1)
    try:
        yield host
    finally:
        ours.close()
        end(process)

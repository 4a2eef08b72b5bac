"""Several logins in one browser: `launch_camoufox.py --host`, ordered as the coordinator does, with real browsers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from contract.child_api import TOKEN_HEADER
from contract.exit_codes import ExitCode
from contract.host_orders import ChildOrder, End, Ended, Ending, Full, Start, receive_news, send, socket_pair
from contract.run_folder import SESSION, Role, read_processes, read_submitted
from demo.accounts import LoginKind
from tests.e2e.fleet import ROOT, Site, end, eventually, fetch, new_login
from tests.support import DIES_WITH_PARENT
from tests.support.ports import free_range
from tests.support.processes import group_members
from tests.support.waiting import HANG_LIMIT_S

pytestmark = pytest.mark.slow

USERS = ("ada", "grace", "user1", "user2")
KINDS: dict[str, LoginKind] = {"ada": "rotating"}
"""Her cookie is another after each load of the page, so that her session is one to be saved."""
VICTIMS: tuple[Role, ...] = ("browser", "driver")
ENGINES = ["chromium", pytest.param("firefox", marks=pytest.mark.firefox)]


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
                if data:
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
def running_host(site: Site, folder: Path, engine: str) -> Iterator[Host]:
    folder.mkdir()
    run_dir = folder / "host"
    (run_dir / "tmp").mkdir(mode=0o700, parents=True)
    ours, theirs = socket_pair()
    base = free_range(12)
    command = ["launch_camoufox.py", "--engine", engine, "--stream-port", str(base), "--host", str(theirs.fileno())]
    given = {"SITE_URL": f"{site.url}/any/chat", "TABFLEET_RUN_DIR": str(run_dir), "TMPDIR": str(run_dir / "tmp")}
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


@pytest.mark.parametrize("engine", ENGINES)
def test_each_login_is_a_child_of_its_own(site: Site, empty_tmp: Path, engine: str) -> None:
    with running_host(site, empty_tmp / "h", engine) as host:
        host.serve(site, *USERS)
        since = site.last_id()
        for user, child in host.children.items():
            body = child.readiness()
            assert body["instance_id"] == f"instance-of-{user}"
            answer = "".join(child.ask(f"hello from {user}", f"request-of-{user}"))
            (entry,) = [entry for entry in site.ledger(since=since) if entry["account"] == user]
            assert answer == entry["answer"]
            assert read_submitted(child.order.run_dir) == frozenset({f"request-of-{user}"})
            assert "child_starting" in child.log.read_text()
        said = "".join(path.read_text() for path in empty_tmp.glob("h/*.log"))
        assert not [secret for secret in ("token-of-", "hello from") if secret in said]
        browser = read_processes(host.run_dir)["browser"]
        host.order_end("ada", "term")
        assert host.wait_ended("ada") == [ExitCode.STOPPED]
        saved = json.loads((host.children["ada"].order.run_dir / SESSION).read_bytes())
        host.order_end("grace", "kill")
        assert host.wait_ended("grace") == [-signal.SIGKILL]
        assert not host.children["ada"].readiness()
        assert not host.children["grace"].readiness()
        # Their logins are free, and there is room for them in the same browser.
        (host.folder / "ada").rename(host.folder / "ada-before")
        host.start(site, "ada", saved["storage_state"])
        host.wait_ready("ada", "user1", "user2")
        assert read_processes(host.run_dir)["browser"] == browser
        host.orders.close()
        assert host.process.wait(HANG_LIMIT_S) == ExitCode.STOPPED
        eventually(lambda: not group_members(browser.pid), timeout_s=HANG_LIMIT_S, what="the end of the browser")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_login_in_trouble_leaves_its_neighbours_alone(site: Site, empty_tmp: Path, engine: str) -> None:
    """One page's script never ends, and its child is killed; the answers of the others stay whole."""
    with running_host(site, empty_tmp / "h", engine) as host:
        host.serve(site, *USERS)
        since = site.last_id()
        answers: dict[str, str] = {}

        def ask(user: str, prompt: str) -> None:
            answers[user] = ""
            with contextlib.suppress(AssertionError, OSError, HTTPException):  # one of them is killed
                for text in host.children[user].ask(prompt):
                    answers[user] += text

        prompts = dict.fromkeys(USERS, "[[tokens=150 delay_ms=40]]") | {"ada": "[[busy_ms=600000 tokens=10]]"}
        asking = [threading.Thread(target=ask, args=one, daemon=True) for one in prompts.items()]
        for thread in asking:
            thread.start()
        eventually(lambda: len(site.ledger(since=since)) == 4 and answers["ada"], timeout_s=HANG_LIMIT_S)
        host.order_end("ada", "kill")
        assert host.wait_ended("ada") == [-signal.SIGKILL]
        for thread in asking:
            thread.join(HANG_LIMIT_S)
        told = {entry["account"]: entry["answer"] for entry in site.ledger(since=since)}
        assert {user: answers.get(user) for user in USERS[1:]} == {user: told[user] for user in USERS[1:]}
        assert all(host.children[user].readiness()["status"] == "ready" for user in USERS[1:])


@pytest.mark.parametrize("victim", VICTIMS)
def test_the_browsers_death_is_everybodys(site: Site, empty_tmp: Path, victim: Role) -> None:
    with running_host(site, empty_tmp / "h", "chromium") as host:
        host.serve(site, *USERS[:2])
        os.kill(read_processes(host.run_dir)[victim].pid, signal.SIGKILL)
        code = ExitCode.BROWSER_LOST if victim == "browser" else ExitCode.DRIVER_LOST
        assert host.wait_ended(*USERS[:2]) == [code, code]
        assert host.full
        assert host.process.wait(HANG_LIMIT_S) == code


def test_a_killed_host_leaves_nothing(site: Site, empty_tmp: Path) -> None:
    with running_host(site, empty_tmp / "h", "chromium") as host:
        host.serve(site, *USERS[:2])
        noted = read_processes(host.run_dir)
        host.process.kill()
        host.process.wait()

        def is_gone() -> bool:
            return not (group_members(noted["browser"].pid) or noted["driver"].is_alive())

        eventually(is_gone, timeout_s=HANG_LIMIT_S)
        state = json.loads(host.children["grace"].order.profile.read_text())
    with running_host(site, empty_tmp / "again", "chromium") as host:  # its login is free
        host.start(site, "grace", state)
        host.wait_ready("grace")


def test_a_browser_that_cannot_be_had_is_each_childs_reason(
    site: Site, empty_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROWSER_EXECUTABLE", "/nowhere/chromium")
    with running_host(site, empty_tmp / "h", "chromium") as host:
        host.start(site, "ada")
        assert host.wait_ended("ada") == [ExitCode.NO_BROWSER]
        assert host.full
        assert host.process.wait(HANG_LIMIT_S) == ExitCode.NO_BROWSER
        assert "BROWSER_EXECUTABLE" in host.children["ada"].log.read_text()


def test_orders_that_nobody_can_carry_out_are_refused_by_the_child(site: Site, empty_tmp: Path) -> None:
    with running_host(site, empty_tmp / "h", "chromium") as host:
        host.start(site, "ada")
        host.wait_ready("ada")
        folder = host.folder / "grace"
        folder.mkdir(mode=0o700)
        (folder / "surroundings.json").write_text('{"proxy": "http://user:secret@127.0.0.1:1"}')
        taken = host.children["ada"].order.model_copy(
            update={"instance_id": "second", "run_dir": folder, "name": "second"}
        )
        host.children["second"] = Child(taken, host.folder / "second.log")
        with host.children["second"].log.open("wb") as log:
            send(host.orders, Start(start=taken), log.fileno())
        assert host.wait_ended("second") == [ExitCode.USAGE]
        said = host.children["second"].log.read_text()
        assert "a browser of its own" in said
        assert "secret" not in said
        folder.joinpath("surroundings.json").unlink()
        again = taken.model_copy(update={"instance_id": "third", "name": "third"})
        host.children["third"] = Child(again, host.folder / "third.log")
        with host.children["third"].log.open("wb") as log:
            send(host.orders, Start(start=again), log.fileno())
        assert host.wait_ended("third") == [ExitCode.PORT_IN_USE]
        assert host.children["ada"].readiness()["status"] == "ready"

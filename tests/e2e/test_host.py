"""Several logins in one browser: `launch_camoufox.py --host`, ordered as the coordinator does, with real browsers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from http.client import HTTPException
from pathlib import Path

import pytest

from contract.exit_codes import ExitCode
from contract.host_orders import Start, send
from contract.run_folder import SESSION, Role, read_processes, read_submitted
from tests.e2e.fleet import Site, eventually
from tests.e2e.host import Child, running_host
from tests.support.processes import group_members
from tests.support.waiting import HANG_LIMIT_S

pytestmark = pytest.mark.slow

USERS = ("ada", "grace", "user1", "user2")
VICTIMS: tuple[Role, ...] = ("browser", "driver")
ENGINES = ["chromium", pytest.param("firefox", marks=pytest.mark.firefox)]


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


@pytest.mark.parametrize("after_s", [0.0, 0.6, 0.9, 1.2])
def test_a_host_whose_orders_end_while_its_browser_starts_ends(site: Site, empty_tmp: Path, after_s: float) -> None:
    with running_host(site, empty_tmp / "h") as host:
        time.sleep(after_s)
        host.orders.close()
        assert host.process.wait(HANG_LIMIT_S) == 0

"""Run the product as an operator does: the demo site, logged-in profiles and the coordinator, all real processes."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from openai import OpenAI

from demo.accounts import CARRIED_BY, LoginKind
from tests.browser.profiles import login_cookie, state_of
from tests.support import DIES_WITH_PARENT
from tests.support.api_clients import openai_client
from tests.support.ports import free_range
from tests.support.waiting import pause_s

ROOT = Path(__file__).resolve().parents[2]
PASSWORDS = {"ada": "lovelace", "grace": "hopper"}
MODEL = "demo-small"
T = TypeVar("T")


def eventually(look: Callable[[], T], *, timeout_s: float, what: object = "it") -> T:
    """Poll `look` until it returns something true, and return that; fail after timeout_s seconds."""
    began = time.monotonic()
    while not (seen := look()):
        waited_s = time.monotonic() - began
        assert waited_s < timeout_s, f"{what} did not happen within {timeout_s:g} s"
        time.sleep(pause_s(waited_s, 0.1))  # a look is a request of a process that has other things to do
    return seen


def fetch(
    url: str, *, headers: Mapping[str, str] | None = None, body: Any = None, method: str | None = None
) -> tuple[int, Any]:
    """Send one request on a new connection; return the status and the decoded JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        url, data=data, headers={"content-type": "application/json", **(headers or {})}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@dataclass(frozen=True)
class Site:
    """A demo site that runs as a process; `token` is that of its control API."""

    url: str
    token: str

    def ledger(self, **filters: Any) -> list[dict[str, Any]]:
        """Return the submissions that match; with `wait_s`, wait for one."""
        query = "&".join(f"{name}={value}" for name, value in filters.items())
        entries = self._control(f"/control/ledger?{query}")["entries"]
        assert isinstance(entries, list)
        return entries

    def last_id(self) -> int:
        """Return the id of the newest submission, to ask for later ones by `since`."""
        return max((entry["id"] for entry in self.ledger()), default=0)

    def fault(self, kind: str, **more: Any) -> None:
        """Activate a fault; demo/README.md lists them."""
        self._control("/control/faults", {"kind": kind, **more})

    def sessions(self) -> dict[str, Any]:
        """Return the open sessions, and how many ended by a spent token and how many deleted cookies came back."""
        answer = self._control("/control/sessions")
        assert isinstance(answer, dict)
        return answer

    def used_since(self, account: str, before: Collection[int]) -> bool:
        """Return whether a login of the account has been used that is not among those before."""
        sessions = self.sessions()["open"]
        return any(one["account"] == account and one["used"] and one["id"] not in before for one in sessions)

    def clear_faults(self) -> None:
        """Clear all faults; answers that stall without an end go on."""
        self._control("/control/faults", method="DELETE")

    def _control(self, path: str, body: Any = None, *, method: str | None = None) -> Any:
        status, answer = fetch(self.url + path, headers={"x-demo-control": self.token}, body=body, method=method)
        assert status == 200, answer
        return answer


@contextlib.contextmanager
def demo_site(*arguments: str) -> Iterator[Site]:
    """Run the demo site, with these arguments, on a free port while the context lasts."""
    token = secrets.token_hex(8)
    command = [*DIES_WITH_PARENT, sys.executable, "-m", "demo.site", "--port", "0", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ, "DEMO_CONTROL_TOKEN": token}
    )
    try:
        assert process.stdout is not None
        yield Site(process.stdout.readline().split()[-1], token)
    finally:
        end(process)


def log_in_by_request(site: Site, folder: Path, users: Sequence[str] = ("ada", "grace")) -> Path:
    """Log users in by requests, and save their profiles to the folder.

    A browser, which takes seconds, does so in test_demo.py, and in tests/browser/page/test_login.py.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    for user in users:
        connection = HTTPConnection(urlsplit(site.url).netloc, timeout=30)
        form = urlencode({"username": user, "password": PASSWORDS[user]})
        connection.request("POST", "/login", form, {"content-type": "application/x-www-form-urlencoded"})
        answer = connection.getresponse()
        (cookie,) = SimpleCookie(answer.getheader("set-cookie")).values()
        connection.close()
        state = {"cookies": [login_cookie(cookie.value, time.time() + float(cookie["max-age"]))], "origins": []}
        (folder / f"{user}.json").write_text(json.dumps(state))
    return folder


def log_in_as(site: Site, folder: Path, kinds: Mapping[str, LoginKind]) -> Path:
    """Save a profile for each user in the folder, with a new login of the kind given for them."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for user, kind in kinds.items():
        (folder / f"{user}.json").write_text(json.dumps(new_login(site, user, kind)))
    return folder


def new_login(site: Site, user: str, kind: LoginKind) -> dict[str, Any]:
    """Log a user in without a browser, and return what one would have saved."""
    password = PASSWORDS.get(user) or user.replace("user", "demo")
    path = "/login" if kind == "cookie" else f"/{kind}/login"
    if CARRIED_BY[kind] == "bearer":
        _, answer = fetch(site.url + path, body={"username": user, "password": password})
        return state_of(kind, site.url, answer["token"], answer["expires_at"])
    connection = HTTPConnection(urlsplit(site.url).netloc, timeout=30)
    form = urlencode({"username": user, "password": password})
    connection.request("POST", path, form, {"content-type": "application/x-www-form-urlencoded"})
    set_cookies = connection.getresponse().headers.get_all("set-cookie") or []
    connection.close()
    cookie = SimpleCookie(set_cookies[0])["demo_session"]
    return state_of(kind, site.url, cookie.value, time.time() + float(cookie["max-age"]))


def chromium() -> str:
    """Return the path of the Chromium that `make setup` found or installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("BROWSER_EXECUTABLE") or next((path for path in map(_which, names) if path), None)
    assert found, "no Chromium: run make setup"
    return found


def _which(name: str) -> str | None:
    paths = (Path(folder) / name for folder in os.environ["PATH"].split(os.pathsep))
    return next((str(path) for path in paths if os.access(path, os.X_OK)), None)


@dataclass
class Fleet:
    """A running coordinator, its port, its first API key and its log."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    key: str | None
    folder: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        """Return the base URL without a path."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, **more: Any) -> OpenAI:
        """Return the real OpenAI client, with its default retries."""
        return openai_client(self.url, self.key or "none", **more)

    def ready(self) -> tuple[int, Any]:
        """Return status and body of `/ready`."""
        return fetch(f"{self.url}/ready")

    def screenshot(self, child: str, *, key: str | None = None) -> tuple[int, dict[str, str], bytes]:
        """Request a screenshot of a child's page; return status, headers and body."""
        headers = {"authorization": f"Bearer {key or self.key}"}
        request = urllib.request.Request(f"{self.url}/admin/children/{child}/screenshot", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def children(self) -> dict[str, Any]:
        """Return the children of `/ready` by name."""
        return {child["name"]: child for child in self.ready()[1]["children"]}

    def wait_for(self, timeout_s: float = 60, **states: str) -> None:
        """Wait until the named children are in these states."""

        def seen() -> bool:
            children = self.children()
            return all(children.get(name, {}).get("state") == state for name, state in states.items())

        eventually(seen, timeout_s=timeout_s, what=_Later(lambda: f"{states}; log:\n{self.log.read_text()[-4000:]}"))

    def child_pid(self, name: str) -> int:
        """Return the pid of a child's process, which others may share."""
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        status, known = fetch(f"{self.url}/admin/children/{name}", headers=headers)
        assert status == 200, known
        assert isinstance(known["pid"], int), f"no process of {name}"
        return known["pid"]


class _Later:
    """A text that is made when it is needed: the log at the time of the failure."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __str__(self) -> str:
        return self._make()


@contextlib.contextmanager
def fleet(
    site: Site,
    profiles: Path,
    folder: Path,
    *,
    keys: Sequence[str] = ("test-key",),
    module: str = "coordinator.main",
    before: Sequence[str] = (),
    **environment: str,
) -> Iterator[Fleet]:
    """Run a coordinator with these profiles, by `python -m module`; stop it by SIGTERM, after 60 s by SIGKILL.

    `before` is a command that runs another, which it is put before.
    """
    folder.mkdir(exist_ok=True)
    base = free_range(41)
    (folder / "key.txt").write_text("".join(f"{key} role=operate\n" for key in keys))
    given = {
        "LOCAL_PROFILE_DIR": str(profiles),
        "AUTH_KEY_FILE_PATH": str(folder / "key.txt"),
        "CHAT_SITE": "demo",
        "SITE_URL": site.url,
        "BROWSER_ENGINE": "chromium",
        "COORDINATOR_PORT": str(base),
        "BASE_API_PORT": str(base + 1),
        "BASE_STREAM_PORT": str(base + 21),
        "LOG_FORMAT": "json",
        **environment,
    }
    log = folder / "coordinator.log"
    # Of its own, for a coordinator that begins beside it would clear up after one that is killed; short as
    # operators have it, for Chromium's sockets.
    with tempfile.TemporaryDirectory(prefix="e2e-", dir="/tmp") as tmp:
        given = {"TMPDIR": tmp, **given}
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [*DIES_WITH_PARENT, *before, sys.executable, "-m", module],
                cwd=ROOT,
                env={**os.environ, **given},
                stdout=stderr,
                stderr=stderr,
            )
        running = Fleet(process, base, log, keys[0] if keys else None, folder, given)
        try:
            eventually(lambda: _live(running), timeout_s=60, what=f"/live of {log}")
            yield running
        finally:
            end(process, timeout_s=60)


def _live(running: Fleet) -> bool:
    assert running.process.poll() is None, running.log.read_text()
    try:
        return fetch(f"{running.url}/live")[0] == 200
    except OSError:
        return False


def end(process: subprocess.Popen[Any], *, timeout_s: float = 30) -> None:
    """Send SIGTERM, wait, send SIGKILL after timeout_s. Raise TimeoutExpired if SIGKILL was needed."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def descendants(pid: int) -> list[int]:
    """Return all descendants of a process, in whatever session they are."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    below = list(parents.get(pid, []))
    for child in below:
        below.extend(parents.get(child, []))
    return below


def command_line(pid: int) -> list[str]:
    """Return the command line of a process; an empty list if it has exited."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def alive(pids: Sequence[int]) -> list[int]:
    """Return those of the processes that still run; zombies do not count."""
    return [pid for pid in pids if _state(pid) not in ("Z", "X", None)]


def _state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None

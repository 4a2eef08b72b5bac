"""Three cells that claim their logins in etcd, each a real coordinator over fake children, and what they note."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.coordinator.program import environment, write_profile
from tests.scale.store import Store, store
from tests.scale.ways import Ways, namespaces, other_clocks, relays
from tests.support import DIES_WITH_PARENT, age
from tests.support.json_lines import json_lines
from tests.support.ports import free_range
from tests.support.processes import command_line
from tests.support.waiting import eventually, eventually_async

CELLS = ("east", "north", "west")
OF_OTHER_CLOCKS = "north"
LOGINS = tuple(f"login-{number}" for number in range(6))
TTL_S = int(os.environ.get("SCALE_TTL_S", "3"))
COME_BACK_S = 60.0


class Cell:
    """One coordinator, which is started, stopped, killed and started again."""

    def __init__(self, name: str, fleet: ScaleFleet, clocks: tuple[str, ...]) -> None:
        self.name, self._fleet = name, fleet
        self.folder = fleet.folder / name
        self.folder.mkdir()
        self.tmp = fleet.tmp / name
        self.tmp.mkdir()
        self.port = free_range(1)
        self._before = (*DIES_WITH_PARENT, *fleet.ways.command(name), *clocks)
        self._environment: dict[str, str] = {}
        self._process: asyncio.subprocess.Process | None = None
        self.pid = 0
        self._http: httpx.AsyncClient | None = None

    async def start(self, **given: str) -> None:
        """Start it, and wait until it answers."""
        fleet = self._fleet
        tls = fleet.store.tls
        settings = {
            "LOCAL_PROFILE_DIR": str(fleet.profiles),
            "CELL": self.name,
            "CLAIMS": "etcd",
            "CLAIMS_URL": f"https://{fleet.ways.address(self.name)}",
            "CLAIMS_CA_FILE": str(tls.authority.file),
            "CLAIMS_CERT_FILE": str(tls.cert_file),
            "CLAIMS_KEY_FILE": str(tls.key_file),
            "CLAIM_TTL_S": str(TTL_S),
            "SESSION_DIR": str(self.folder / "sessions"),
            "SESSION_KEY_FILE": str(fleet.session_key),
            "COORDINATOR_PORT": str(self.port),
            "BACKOFF_MAX_S": "1",
            **fleet.settings,
        }
        if not self._environment:
            self._environment = environment(self.folder, **settings, TMPDIR=str(self.tmp))
        pid_file = self.folder / "pid"
        pid_file.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*self._before, *DIES_WITH_PARENT, sys.executable, "-m", "tests.scale.run_cell"),
                *(str(pid_file), str(fleet.evidence)),
                env={**self._environment, **given},
                cwd=self.folder,
                stderr=log,
            )
        self.pid = int(await eventually(lambda: pid_file.exists() and pid_file.read_text().strip()))
        if self._http is None:
            door = await fleet.ways.open_door(self.name, self.port, fleet.folder / f"{self.name}.door")
            transport = httpx.AsyncHTTPTransport(uds=door)
            self._http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", transport=transport, timeout=2)
        await eventually_async(self._lives)

    async def _lives(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (self.folder / "log").read_text()[-3000:]
        return await self.ready() is not None

    async def ready(self) -> dict[str, Any] | None:
        """The body of its `/ready`; None where it does not answer."""
        assert self._http is not None
        try:
            body = (await self._http.get("/ready")).json()
        except (httpx.HTTPError, ValueError):
            return None
        assert isinstance(body, dict)
        return body

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, and wait until it has."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)
                os.kill(self.pid, number)
            await asyncio.wait_for(self._process.wait(), COME_BACK_S)
            self._process = None

    async def close(self) -> None:
        """End it at once, and the client of it."""
        await self.end(signal.SIGKILL)
        if self._http is not None:
            await self._http.aclose()

    @property
    def http(self) -> httpx.AsyncClient:
        """A client of it."""
        assert self._http is not None
        return self._http

    def events(self, name: str) -> list[dict[str, Any]]:
        """Its log's lines of this name."""
        return [line for line in json_lines(self.folder / "log") if line["event"] == name]

    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text()


@dataclass(frozen=True)
class Hold:
    """What one browser noted: the first and the last time that it had the login, in nanoseconds since 1970."""

    first_ns: int
    last_ns: int
    instance: str


@dataclass
class ScaleFleet:
    """The store, the ways to it, and the cells."""

    folder: Path
    tmp: Path
    """For run folders; its path is short, as those of browsers' sockets must be."""
    ways: Ways
    store: Store
    settings: dict[str, str]
    logins: Sequence[str]
    cells: dict[str, Cell] = field(default_factory=dict)
    clocks_differ: bool = False
    _read: dict[str, tuple[int, dict[str, Hold]]] = field(default_factory=dict)

    @property
    def profiles(self) -> Path:
        return self.folder / "profiles"

    @property
    def evidence(self) -> Path:
        return self.folder / "evidence"

    @property
    def session_key(self) -> Path:
        return self.folder / "session-key"

    def plan(self, login: str, **behaviour: Any) -> None:
        """Have children of this login behave so from their starts on."""
        (self.evidence / f"{login}.json").write_text(json.dumps(behaviour))

    def holds(self, login: str) -> list[Hold]:
        """What browsers have noted of a login, in the order in which they began."""
        file = self.evidence / f"{login}.held"
        offset, found = self._read.get(login, (0, {}))
        if file.exists():
            with file.open("rb") as notes:
                notes.seek(offset)
                lines, _, _ = notes.read().rpartition(b"\n")
            offset += len(lines) + 1 if lines else 0
            for line in lines.decode().splitlines():
                at, instance = line.split()
                old = found.get(instance)
                found[instance] = Hold(old.first_ns if old else int(at), int(at), instance)
        self._read[login] = offset, found
        return sorted(found.values(), key=lambda hold: hold.first_ns)

    def child_of(self, login: str) -> int:
        """The process of the login's child that was started last."""
        return int(json_lines(self.evidence / f"{login}.starts")[-1]["pid"])

    @staticmethod
    def stop(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)

    def told(self, login: str, variable: str) -> str:
        """What the login's child was told by this variable of its environment."""
        variables = Path(f"/proc/{self.child_of(login)}/environ").read_bytes().split(b"\0")
        name = f"{variable}=".encode()
        return os.fsdecode(next(one.removeprefix(name) for one in variables if one.startswith(name)))

    def end_browsers(self) -> None:
        """End what was started without a death signal, if it is still there."""
        for file in self.evidence.glob("*.orphans"):
            for note in json_lines(file):
                words = command_line(note["pid"])
                if any(word.startswith(str(self.evidence)) for word in words):
                    os.kill(note["pid"], signal.SIGKILL)

    async def placed(self, cells: Iterable[str] = CELLS) -> dict[str, list[str]]:
        """In which cells each login is READY."""
        found: dict[str, list[str]] = {login: [] for login in self.logins}
        for cell in cells:
            body = await self.cells[cell].ready()
            for child in body["children"] if body else []:
                if child["state"] == "READY":
                    found[child["name"]].append(cell)
        return found

    async def until_shared_out(self, cells: Iterable[str] = CELLS) -> dict[str, str]:
        """Wait until each login is served once, and each of these cells has its share; return the cells of logins."""
        cells = tuple(cells)
        last: dict[str, list[str]] = {}

        async def look() -> bool:
            nonlocal last
            last = await self.placed(cells)
            count = Counter(cell for places in last.values() for cell in places)
            fair = max(count.values(), default=0) - min((count[cell] for cell in cells), default=0) <= 1
            return all(len(places) == 1 for places in last.values()) and fair

        try:
            await eventually_async(look, timeout_s=COME_BACK_S)
        except AssertionError:
            logs = "".join(f"\n== {cell}\n{self.cells[cell].log()[-1500:]}" for cell in cells)
            raise AssertionError(f"not all logins are served once and shared out: {last}{logs}") from None
        return {login: places[0] for login, places in last.items()}


@contextlib.asynccontextmanager
async def scale_fleet(
    folder: Path,
    *,
    in_namespaces: bool,
    logins: Sequence[str] = LOGINS,
    cells: Sequence[str] = CELLS,
    **settings: str,
) -> AsyncIterator[ScaleFleet]:
    """Run etcd, and make cells, of which none runs yet; a child's browser notes that it has its login."""
    async with contextlib.AsyncExitStack() as stack:
        port = free_range(1)
        ways: Ways
        if in_namespaces:
            ways = stack.enter_context(namespaces(cells, port))
        else:
            ways = await stack.enter_async_context(relays(cells, port))
        etcd = await stack.enter_async_context(store(ways, folder / "etcd", port))
        tmp = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-", dir="/tmp", ignore_cleanup_errors=True))
        )
        fleet = ScaleFleet(folder, tmp, ways, etcd, settings, logins)
        fleet.evidence.mkdir()
        stack.callback(fleet.end_browsers)
        age.new_key(fleet.session_key)
        for login in logins:
            write_profile(fleet.profiles, login)
            fleet.plan(login, holds=True)
        clocks = other_clocks()
        fleet.clocks_differ = bool(clocks)
        for name in cells:
            cell = fleet.cells[name] = Cell(name, fleet, clocks if name == OF_OTHER_CLOCKS else ())
            stack.push_async_callback(cell.close)
        yield fleet

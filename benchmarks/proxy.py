"""CPU of the coordinator per JSON request and per streamed event, as multiples of nginx before the same children."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.cheap_child import CHUNKS
from benchmarks.cpu import cpu_s
from benchmarks.load import KEY, streams, whole_answers
from benchmarks.report import Compared, Result

CHILDREN = 16
REQUESTS = 4_000
ROUNDS = 5
_START_S = 30.0
# From cProfile of the coordinator under each of the two loads, waiting left out.
LARGEST_COSTS = {
    "CPU per JSON request": "the largest remaining cost is 3 socket sends a request (a third), then aiohttp's client",
    "CPU per streamed event": "the largest remaining cost is the socket's send (a quarter), then the loop's own turns",
}


@dataclass
class Contender:
    """A proxy under load, and what each round cost it: microseconds of CPU."""

    name: str
    port: int
    pids: list[int]
    per_request: list[float] = field(default_factory=list)
    per_event: list[float] = field(default_factory=list)

    def warm_up(self) -> None:
        asyncio.run(whole_answers(self.port, requests=REQUESTS // 10, connections=CHILDREN))

    def round(self) -> None:
        before = cpu_s(self.pids)
        asyncio.run(whole_answers(self.port, requests=REQUESTS, connections=CHILDREN))
        between = cpu_s(self.pids)
        events = asyncio.run(streams(self.port, count=CHILDREN))
        after = cpu_s(self.pids)
        if events != CHILDREN * CHUNKS:
            raise ValueError(f"{self.name} brought {events} events, not {CHILDREN * CHUNKS}")
        self.per_request.append((between - before) / REQUESTS * 1e6)
        self.per_event.append((after - between) / events * 1e6)


def run(console: Console) -> Result:
    """Measure both in turn, round by round."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        first = _free_ports(2 * CHILDREN + 2)
        ours = stack.enter_context(_coordinator(Path(folder), first))
        peer = stack.enter_context(_nginx(Path(folder), first))
        for contender in (ours, peer):
            contender.warm_up()
        for number in range(ROUNDS):
            console.print(f"proxy: round {number + 1} of {ROUNDS}", style="dim")
            for contender in (ours, peer):
                contender.round()
    per_request = (median(ours.per_request), median(peer.per_request))
    per_event = (median(ours.per_event), median(peer.per_event))
    rows = [
        Compared("CPU per JSON request", "us", per_request[0], "nginx", per_request[1], aim=15),
        Compared("CPU per streamed event", "us", per_event[0], "nginx", per_event[1], aim=3),
    ]
    setting = f"Keys, accounting and probes on; {CHILDREN} children, {ROUNDS} rounds of {REQUESTS} requests each."
    missed = [f"{row.what}: {LARGEST_COSTS[row.what]}" for row in rows if not row.met]
    return Result("The coordinator's proxy beside nginx before the same children", rows, [setting, *missed])


@contextlib.contextmanager
def _coordinator(folder: Path, first: int) -> Iterator[Contender]:
    """The real program; port `first`, its children on those that follow."""
    (folder / "active").mkdir()
    for number in range(CHILDREN):
        cookie = {"name": "sid", "value": f"login {number}", "domain": "localhost", "path": "/"}
        (folder / f"active/{number:03}.json").write_text(json.dumps({"cookies": [cookie], "origins": []}))
    (folder / "key.txt").write_text(f"{KEY}\n")
    flags = {
        "--profiles": folder / "active",
        "--site": "demo",
        "--engine": "chromium",
        "--browser-executable": sys.executable,
        "--coordinator-port": first,
        "--base-api-port": first + 2,
        "--base-stream-port": first + 2 + CHILDREN,
    }
    command = [
        sys.executable,
        "-m",
        "benchmarks.run_coordinator",
        *(str(word) for item in flags.items() for word in item),
    ]
    environment = {"PATH": _path(), "AUTH_KEY_FILE_PATH": str(folder / "key.txt"), "TMPDIR": str(folder)}
    with _process(command, folder / "coordinator.log", environment) as process:
        _wait_for(lambda: _ready_children(first) == CHILDREN, process, folder / "coordinator.log")
        yield Contender("coordinator", first, [process.pid])


_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream children {{ {servers} keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://children; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
        }}
    }}
}}
"""


@contextlib.contextmanager
def _nginx(folder: Path, first: int) -> Iterator[Contender]:
    program = shutil.which("nginx", path=_path())
    if program is None:
        raise FileNotFoundError("nginx is not installed; scripts/bench-setup installs it")
    port = first + 1
    servers = " ".join(f"server 127.0.0.1:{first + 2 + number};" for number in range(CHILDREN))
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port, servers=servers))
    with _process(
        [program, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder / "nginx.out", None
    ) as process:
        _wait_for(lambda: _listens(port), process, folder / "nginx.out")
        yield Contender("nginx", port, [process.pid, *_workers(process.pid)])


@contextlib.contextmanager
def _process(command: list[str], log: Path, environment: dict[str, str] | None) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _path() -> str:
    return f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _workers(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _wait_for(seen: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not seen():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"process {process.pid} did not come up: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _ready_children(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as response:
            return sum(child["state"] == "READY" for child in json.load(response)["children"])
    except OSError:
        return 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> int:
    """The first of so many neighbouring ports that are free now."""
    for first in range(20_000, 60_000, count):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise OSError("no free ports")

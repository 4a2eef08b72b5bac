"""CPU of the coordinator per JSON request and per streamed event, as multiples of nginx before the same children."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.cheap_child import CHUNKS
from benchmarks.cheap_fleet import cheap_fleet, process, search_path, wait_for
from benchmarks.cpu import cpu_s
from benchmarks.load import streams, whole_answers
from benchmarks.report import Compared, Result

CHILDREN = 16
REQUESTS = 4_000
ROUNDS = 5
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
    """The real program; port `first`, its children on those that follow nginx's."""
    with cheap_fleet(folder, port=first, child_port=first + 2, children=CHILDREN) as running:
        yield Contender("coordinator", first, [running.pid])


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
    program = shutil.which("nginx", path=search_path())
    if program is None:
        raise FileNotFoundError("nginx is not installed; scripts/bench-setup installs it")
    port = first + 1
    servers = " ".join(f"server 127.0.0.1:{first + 2 + number};" for number in range(CHILDREN))
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port, servers=servers))
    command, log = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder / "nginx.out"
    with process(command, log, None) as running:
        wait_for(lambda: _listens(port), running, log)
        yield Contender("nginx", port, [running.pid, *_workers(running.pid)])


def _workers(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


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

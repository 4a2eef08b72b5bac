"""CPU of the coordinator per JSON request and per streamed event, compared with nginx in front of the same children."""

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

from benchmarks.load import json_completions, streams
from benchmarks.process_events import children_of
from benchmarks.process_usage import cpu_s
from benchmarks.report import Compared, Result
from benchmarks.stub_child import CHUNKS
from benchmarks.stub_fleet import run_process, search_path, stub_fleet, wait_for
from tests.support.ports import free_range

CHILDREN = 16
REQUESTS = 4_000
ROUNDS = 5
# From cProfile of the coordinator under each of the two loads, without the time spent waiting.
LARGEST_COSTS = {
    "CPU per JSON request": "the largest remaining cost is 3 socket sends a request (a third), then aiohttp's client",
    "CPU per streamed event": "the largest remaining cost is the socket's send (a quarter), then the event loop itself",
}


@dataclass
class Contender:
    """A proxy under load, and its CPU in microseconds in each round."""

    name: str
    port: int
    pids: list[int]
    per_request: list[float] = field(default_factory=list)
    per_event: list[float] = field(default_factory=list)

    def warm_up(self) -> None:
        """Send requests that are not measured."""
        asyncio.run(json_completions(self.port, requests=REQUESTS // 10, connections=CHILDREN))

    def round(self) -> None:
        """Measure one round. Raise ValueError if events were lost."""
        before = cpu_s(self.pids)
        asyncio.run(json_completions(self.port, requests=REQUESTS, connections=CHILDREN))
        between = cpu_s(self.pids)
        events = asyncio.run(streams(self.port, count=CHILDREN))
        after = cpu_s(self.pids)
        if events != CHILDREN * CHUNKS:
            raise ValueError(f"{self.name} delivered {events} events instead of {CHILDREN * CHUNKS}")
        self.per_request.append((between - before) / REQUESTS * 1e6)
        self.per_event.append((after - between) / events * 1e6)


def run(console: Console) -> Result:
    """Measure both proxies in turn, round by round."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        first = free_range(2 * CHILDREN + 2)
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
    return Result("The coordinator's proxy and nginx, in front of the same children", rows, [setting, *missed])


@contextlib.contextmanager
def _coordinator(folder: Path, first: int) -> Iterator[Contender]:
    """Run the real coordinator on port `first`; nginx gets the next port, and the children those after it."""
    with stub_fleet(folder, port=first, child_port=first + 2, children=CHILDREN) as running:
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
    with run_process(command, log, None) as running:
        wait_for(lambda: _listens(port), running, log)
        yield Contender("nginx", port, [running.pid, *children_of(running.pid)])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

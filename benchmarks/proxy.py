"""CPU of the coordinator per request and per streamed event, compared with other proxies in front of the same children.

nginx looks into no request, so that it tells what passing bytes costs. LiteLLM's proxy does what a gateway for agents
does: it checks the key, parses the request, chooses a backend.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console

from benchmarks.load import KEY, chat_request, json_completions, streams, tool_declarations
from benchmarks.process_events import children_of
from benchmarks.process_usage import cpu_s
from benchmarks.report import Compared, Result
from benchmarks.stub_child import CHUNKS
from benchmarks.stub_fleet import run_process, search_path, stub_fleet, wait_for
from tests.support.ports import free_range

ROOT = Path(__file__).resolve().parent.parent
CHILDREN = 16
REQUESTS = 4_000
ROUNDS = 5
FEW_REQUESTS = 160  # of LiteLLM, which takes a hundred times as long
TOOLS, LARGE_PROMPT_BYTES = 20, 100_000
GATEWAY_START_S = 300.0  # LiteLLM imports for 10 s on an idle machine
LARGE_REQUESTS = {
    f"CPU per request with {TOOLS} tools": chat_request(tools=tool_declarations(TOOLS)),
    f"CPU per request of {LARGE_PROMPT_BYTES // 1000} kB": chat_request("a word " * (LARGE_PROMPT_BYTES // 7)),
}
"""What agents and their users send."""
# From cProfile of the coordinator under each of the two loads, without the time spent waiting.
LARGEST_COSTS = {
    "CPU per JSON request": "the largest remaining cost is aiohttp's client (a fifth); the kernel takes a tenth",
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
    per_large: dict[str, list[float]] = field(default_factory=lambda: {what: [] for what in LARGE_REQUESTS})

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

    def round_of_large(self, requests: int) -> None:
        """Measure one round of each large request."""
        for what, request in LARGE_REQUESTS.items():
            before = cpu_s(self.pids)
            asyncio.run(json_completions(self.port, requests=requests, connections=CHILDREN, request=request))
            self.per_large[what].append((cpu_s(self.pids) - before) / requests * 1e6)


def run(console: Console) -> Result:
    """Measure the proxies in turn, round by round."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        first = free_range(2 * CHILDREN + 3)
        ours = stack.enter_context(_coordinator(Path(folder), first))
        peer = stack.enter_context(_nginx(Path(folder), first))
        gateway = stack.enter_context(_litellm(Path(folder), first))
        for contender in (ours, peer):
            contender.warm_up()
        gateway.round_of_large(FEW_REQUESTS)
        gateway.per_large = {what: [] for what in LARGE_REQUESTS}
        for number in range(ROUNDS):
            console.print(f"proxy: round {number + 1} of {ROUNDS}", style="dim")
            for contender in (ours, peer):
                contender.round()
            ours.round_of_large(REQUESTS // 4)
            gateway.round_of_large(FEW_REQUESTS)
    per_request = (median(ours.per_request), median(peer.per_request))
    per_event = (median(ours.per_event), median(peer.per_event))
    rows = [
        Compared("CPU per JSON request", "us", per_request[0], "nginx", per_request[1], aim=15),
        Compared("CPU per streamed event", "us", per_event[0], "nginx", per_event[1], aim=3),
        *(
            Compared.of_runs(what, "us", ours.per_large[what], "LiteLLM", gateway.per_large[what], aim=1)
            for what in LARGE_REQUESTS
        ),
    ]
    sizes = ", ".join(f"{len(request) / 1000:.0f} kB" for request in LARGE_REQUESTS.values())
    setting = f"Keys, accounting and probes on; {CHILDREN} children, {ROUNDS} rounds of {REQUESTS} requests each."
    large = f"The last rows' requests are {sizes}; {REQUESTS // 4} a round, of LiteLLM {FEW_REQUESTS}."
    missed = [f"{row.what}: {LARGEST_COSTS[row.what]}" for row in rows if not row.met and row.what in LARGEST_COSTS]
    return Result("The coordinator and other proxies in front of the same children", rows, [setting, large, *missed])


@contextlib.contextmanager
def _coordinator(folder: Path, first: int) -> Iterator[Contender]:
    """Run the real coordinator on port `first`; the other proxies get the next two, and the children those after."""
    with stub_fleet(folder, port=first, child_port=first + 3, children=CHILDREN) as running:
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
    servers = " ".join(f"server 127.0.0.1:{first + 3 + number};" for number in range(CHILDREN))
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, port=port, servers=servers))
    command, log = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder / "nginx.out"
    with run_process(command, log, None) as running:
        wait_for(lambda: _listens(port), running, log)
        yield Contender("nginx", port, [running.pid, *children_of(running.pid)])


@contextlib.contextmanager
def _litellm(folder: Path, first: int) -> Iterator[Contender]:
    """Run LiteLLM's proxy with one worker, which checks the same key, and with the children as one model's backends."""
    subprocess.run([ROOT / "scripts" / "app-env", "litellm"], check=True)
    program, port = ROOT / ".cache" / "litellm" / "bin" / "litellm", first + 2
    backends = [
        {"model": "openai/bench", "api_base": f"http://127.0.0.1:{first + 3 + number}/v1", "api_key": "none"}
        for number in range(CHILDREN)
    ]
    config = {
        "model_list": [{"model_name": "bench", "litellm_params": backend} for backend in backends],
        "general_settings": {"master_key": KEY},
    }
    (folder / "litellm.yaml").write_text(json.dumps(config))  # JSON is YAML
    command = [str(program), "--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    # Prices come with the package; without this it fetches them.
    environment = {"PATH": search_path(), "HOME": str(folder), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    log = folder / "litellm.log"
    with run_process([*command, "--telemetry", "False"], log, environment) as running:
        wait_for(lambda: _listens(port), running, log, timeout_s=GATEWAY_START_S)
        yield Contender("LiteLLM", port, [running.pid, *children_of(running.pid)])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

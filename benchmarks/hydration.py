"""Profiles from S3: wall, CPU and memory beside `aws s3 sync`, s5cmd and rclone, from the same server.

1,000 objects of 20 kB, cold (an empty folder) and warm (nothing has changed), each a process from its start
to its end. The server is SeaweedFS on loopback, which takes its share of the same cores; loopback hides the
round trips. Ours also checks every profile and switches the set, theirs only copy. `bare obstore` is our library in a
loop without anything else: what no program that reads with it and Python can be below.

All write to tmpfs, where there is one. For minutes after thousands of files were deleted, as each round does, ext4
looks at each of their inodes before it makes a file (`recently_deleted`): up to 0.5 ms a file, for whoever comes next.

With ``BASELINE=/path/to/an/older/checkout`` (that has its own ``.venv``) that one is measured in the same rounds too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
from rich.console import Console

from benchmarks.report import Compared, Figure, Result
from tests.support.s3 import BUCKET, S3Server, s3_server

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".cache" / "s3-peers"
OBJECTS = 1000
OBJECT_BYTES = 20_000
ROUNDS = 5
PREFIX = "fleet"
MEMORY = "/dev/shm" if os.path.ismount("/dev/shm") else None  # noqa: S108 - tmpfs
BASELINE = "the old commit"
FLOOR = "bare obstore"
AIMS: Mapping[str, tuple[float | None, float | None]] = {
    BASELINE: (1 / 1.5, 0.5),
    "rclone": (None, None),
    FLOOR: (None, None),
}
"""The largest ratios of wall and of CPU to be content with, where they are not 1 and none."""


@dataclass(frozen=True)
class Run:
    """What one process took: seconds of wall and CPU, megabytes of memory at most; and the server's CPU meanwhile."""

    wall_s: float
    cpu_s: float
    memory_mb: float
    server_s: float


@dataclass
class Contender:
    """A program that brings the objects to a folder; `files` is where they then are."""

    name: str
    command: Callable[[Path], list[str]]
    environment: Callable[[Path], dict[str, str]]
    files: Callable[[Path], Path] = lambda folder: folder
    root: Path = ROOT
    cold: list[Run] = field(default_factory=list)
    warm: list[Run] = field(default_factory=list)

    def round(self, folder: Path, server: S3Server) -> None:
        """One cold and one warm run."""
        for runs in (self.cold, self.warm):
            runs.append(_measure(self.command(folder), self.environment(folder), self.root, server))
            brought = len(list(self.files(folder).glob("*.json")))
            if brought != OBJECTS:
                raise ValueError(f"{self.name} brought {brought} objects, not {OBJECTS}")


def run(console: Console) -> Result:
    """Measure all in turn, round by round."""
    subprocess.run([ROOT / "scripts" / "app-env", "s3-peers"], check=True)
    with _served() as server:
        ours, *peers = _contenders(server)
        reloads_s: list[float] = []
        phases: list[dict[str, dict[str, dict[str, float]]]] = []
        for number in range(ROUNDS):
            console.print(f"hydration: round {number + 1} of {ROUNDS}", style="dim")
            for contender in (ours, *peers):
                with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
                    contender.round(Path(folder), server)
            reloads_s.append(_reload(server))
            phases.append(_phases(server))
    rows = [row for state in ("cold", "warm") for peer in peers for row in _rows(state, ours, peer)]
    reload_ms = median(reloads_s) * 1e3
    rows += [
        Compared("reload of a running process", "ms", reload_ms, f"{peer.name}, warm", _wall_ms(peer.warm))
        for peer in peers
    ]
    s5cmd = next(peer for peer in peers if peer.name == "s5cmd")
    behind = sum(mine.wall_s >= theirs.wall_s for mine, theirs in zip(ours.cold, s5cmd.cold, strict=True))
    figures = [Figure(f"cold rounds behind s5cmd, of {ROUNDS}", "rounds", [float(behind)], 0.0)]
    title = f"Hydration of {OBJECTS} profiles of {OBJECT_BYTES // 1000} kB from S3 (medians of {ROUNDS})"
    servers = ", ".join(
        f"{contender.name} {median(run.server_s for run in contender.cold) * 1e3:.0f}" for contender in (ours, *peers)
    )
    notes = [*_notes(rows, phases), f"The server's CPU while each ran cold, in ms: {servers}."]
    return Result(title, rows, notes, figures)


def _notes(rows: list[Compared], rounds: list[dict[str, dict[str, dict[str, float]]]]) -> list[str]:
    """What a process spends its time on, the largest cost first, beneath the aims it misses."""
    notes = []
    for state, clock in (("cold", "cpu"), ("warm", "cpu"), ("cold", "wall"), ("warm", "wall")):
        seen = rounds[0][state][clock]
        took = {phase: median(found[state][clock].get(phase, 0.0) for found in rounds) * 1e3 for phase in seen}
        costs = sorted(took.items(), key=lambda cost: cost[1], reverse=True)
        shown = ", ".join(f"{phase} {ms:.0f}" for phase, ms in costs if ms >= 1)
        notes.append(f"What a {state} process takes, in ms of {'CPU' if clock == 'cpu' else 'wall'}: {shown}.")
    missed = [f"{row.what}, beside {row.peer}" for row in rows if not row.met]
    return [
        *([f"Missed: {'; '.join(missed)}."] if missed else []),
        *notes,
        "The other threads are those that read by obstore, and its own.",
        "A reload of a running process has only the listing and the check of the files to do.",
    ]


def _rows(state: str, ours: Contender, peer: Contender) -> list[Compared]:
    mine, theirs = getattr(ours, state), getattr(peer, state)
    wall_aim, cpu_aim = AIMS.get(peer.name, (1.0, None))
    return [
        Compared(f"{state}: wall", "ms", _wall_ms(mine), peer.name, _wall_ms(theirs), wall_aim),
        Compared(f"{state}: CPU", "ms", _cpu_ms(mine), peer.name, _cpu_ms(theirs), cpu_aim),
        Compared(f"{state}: memory", "MB", _memory_mb(mine), peer.name, _memory_mb(theirs)),
    ]


def _wall_ms(runs: list[Run]) -> float:
    return median(run.wall_s for run in runs) * 1e3


def _cpu_ms(runs: list[Run]) -> float:
    return median(run.cpu_s for run in runs) * 1e3


def _memory_mb(runs: list[Run]) -> float:
    return median(run.memory_mb for run in runs)


def _measure(command: list[str], environment: dict[str, str], root: Path, server: S3Server) -> Run:
    serving = psutil.Process(server.process.pid)
    before = serving.cpu_times()
    small = [sys.executable, "-I", "-S", str(ROOT / "benchmarks" / "rusage.py")]
    done = subprocess.run([*small, *command], cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{command[0]} failed: {done.stderr[-500:]}")
    wall_s, cpu_s, memory_kb = map(float, done.stdout.split())
    after = serving.cpu_times()
    return Run(wall_s, cpu_s, memory_kb / 1024, after.user + after.system - before.user - before.system)


@contextmanager
def _served() -> Iterator[S3Server]:
    with tempfile.TemporaryDirectory() as folder, s3_server(Path(folder)) as server:
        server.upload({f"{PREFIX}/active/profile{number:04}.json": profile(number) for number in range(OBJECTS)})
        yield server


def profile(number: int) -> bytes:
    """A profile as browsers save them: twenty cookies, and stored values that fill it up."""
    cookies = [
        {
            "name": f"cookie{index}",
            "value": f"{number:06}-{index:02}-".ljust(200, "x"),
            "domain": ".chat.example.com",
            "path": "/",
            "expires": 4102444800,
            "httpOnly": True,
            "secure": True,
            "sameSite": "Lax",
        }
        for index in range(20)
    ]
    stored = [{"name": f"setting{index}", "value": "y" * 300} for index in range(35)]
    state = {"cookies": cookies, "origins": [{"origin": "https://chat.example.com", "localStorage": stored}]}
    return json.dumps(state).encode().ljust(OBJECT_BYTES)


def _contenders(server: S3Server) -> list[Contender]:
    source = f"s3://{BUCKET}/{PREFIX}/active/"
    chain = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        **server.credentials(),
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    binaries = PEERS / "bin"
    (s5cmd,) = PEERS.glob("lib/python*/site-packages/s5cmd/bin/s5cmd")
    remote = f":s3,provider=Other,env_auth=true,endpoint='{server.url}',region=us-east-1:{BUCKET}/{PREFIX}/active/"
    baseline = os.environ.get("BASELINE")
    tuned = ["--transfers=32", "--checkers=32", "--fast-list", "--use-server-modtime", "--config=/dev/null"]
    return [
        Contender(
            "tabfleet",
            lambda _folder: [sys.executable, "-m", "coordinator.profiles", "hydrate"],
            lambda folder: {**chain, **_settings(folder)},
            _active,
        ),
        *([_of_checkout(Path(baseline).resolve(), chain)] if baseline else []),
        Contender(
            FLOOR,
            lambda folder: [sys.executable, "-m", "benchmarks.bare_obstore", BUCKET, f"{PREFIX}/active/", str(folder)],
            lambda _folder: chain,
        ),
        Contender(
            "aws s3 sync",
            lambda folder: [str(binaries / "aws"), "s3", "sync", "--quiet", source, str(folder)],
            lambda _folder: chain,
        ),
        Contender(
            "s5cmd",
            lambda folder: [str(s5cmd), "--endpoint-url", server.url, "sync", f"{source}*", f"{folder}/"],
            lambda _folder: chain,
        ),
        Contender(
            "rclone",
            lambda folder: [str(binaries / "rclone"), "sync", *tuned, remote, str(folder)],
            lambda _folder: chain,
        ),
    ]


def _of_checkout(root: Path, chain: dict[str, str]) -> Contender:
    command = [str(root / ".venv" / "bin" / "python"), "-m", "coordinator.profiles", "hydrate"]
    return Contender(BASELINE, lambda _folder: command, lambda folder: {**chain, **_settings(folder)}, _active, root)


def _active(folder: Path) -> Path:
    return folder / "cache" / "current" / "active"


def _settings(folder: Path) -> dict[str, str]:
    return {
        "PROFILE_BACKEND": "s3",
        "AUTH_PROFILE_S3_BUCKET": BUCKET,
        "AUTH_PROFILE_S3_PREFIX": PREFIX,
        "AUTH_PROFILE_CACHE_DIR": str(folder / "cache"),
    }


def _phases(server: S3Server) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds of CPU and of wall by phase, of a cold process and a warm one."""
    found = {}
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        environment = {"PATH": os.environ["PATH"], **server.credentials(), **_settings(Path(folder))}
        for state in ("cold", "warm"):
            environment["BENCHMARK_BEGAN"] = str(time.monotonic())
            command = [sys.executable, "-m", "benchmarks.hydration_phases"]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
            found[state] = json.loads(done.stdout)
    return found


RELOADS = """
import statistics, time
from coordinator.flags import load_settings
from coordinator.profiles import Hydrator
hydrator = Hydrator.from_settings(load_settings([]))
times = []
for _ in range(6):
    began = time.perf_counter()
    hydrator.hydrate()
    times.append(time.perf_counter() - began)
print(statistics.median(times[1:]))
"""


def _reload(server: S3Server) -> float:
    """Seconds that a process takes to hydrate again when nothing has changed, as at each refresh."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        environment = {"PATH": os.environ["PATH"], **server.credentials(), **_settings(Path(folder))}
        done = subprocess.run(
            [sys.executable, "-c", RELOADS], cwd=ROOT, env=environment, capture_output=True, check=True
        )
    return float(done.stdout.split()[-1])

"""Several coordinators that claim one set of logins in etcd: `python -m benchmarks cells`, up to three minutes.

Three real coordinators with small stub children (benchmarks/tiny_stub_child.py) share 100 logins. Measured are the
times until all are claimed and READY: after a start, after the coordinator with most of them is killed, and after it
has come back. Beside the first stands what etcd alone takes: the same claims by one client, without children.

And simulated: how long requests wait at ten cells of ten logins behind a balancer that tries three of them in turn, as
deploy/balancer has it, beside one queue for all.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import random
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import pyrage  # type: ignore[import-untyped]
from rich.console import Console
from rich.progress import track

from benchmarks.report import Compared, Figure, Result
from benchmarks.stub_fleet import run_process, search_path, write_logins
from coordinator.claims.etcd import EtcdClaims
from coordinator.claims.shared import SharedSettings
from tests.support.etcd import Etcd, etcd_server
from tests.support.ports import wide_range

LOGINS, CELLS = 100, 3
TTL_S = 5
ROUNDS = 3
LIMIT_S = 120.0


@dataclass
class Cell:
    """One coordinator, started and killed as often as needed."""

    name: str
    folder: Path
    port: int
    child_port: int
    running: subprocess.Popen[bytes] | None = None

    def command(self, etcd: Etcd, profiles: Path) -> tuple[list[str], dict[str, str]]:
        """Return the command and the environment of its coordinator."""
        flags: dict[str, object] = {
            "--profiles": profiles,
            "--site": "demo",
            "--engine": "chromium",
            "--browser-executable": sys.executable,
            "--coordinator-port": self.port,
            "--base-api-port": self.child_port,
            "--base-stream-port": self.child_port + LOGINS,
            "--claims": "etcd",
            "--claims-url": ",".join(etcd.urls),
            "--claim-ttl-s": TTL_S,
            "--cell": self.name,
            "--session-dir": self.folder / "sessions",
            "--session-key-file": profiles.parent / "session-key",
        }
        words = [str(word) for item in flags.items() for word in item]
        program = [sys.executable, "-m", "benchmarks.coordinator_with_stub_children", "--tiny"]
        environment = {
            "PATH": search_path(),
            "AUTH_KEY_FILE_PATH": str(profiles.parent / "key.txt"),
            "TMPDIR": str(self.folder),
        }
        return [*program, *words], environment

    def kill(self) -> None:
        """End the coordinator as a power cut would."""
        if self.running is not None:
            self.running.kill()
            self.running.wait()
            self.running = None

    def seen(self) -> tuple[int, int]:
        """Return how many logins it has claimed, and how many of them are READY; none while it does not answer."""
        if self.running is None:
            return 0, 0
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://127.0.0.1:{self.port}/ready", timeout=5
            ) as response:
                body = json.load(response)
        except urllib.error.HTTPError as error:
            body = json.load(error)
        except OSError:
            return 0, 0
        claims = body.get("claims", {"held": 0})
        return claims["held"], sum(child["state"] == "READY" for child in body["children"])


@dataclass
class Times:
    """Seconds, one for each round."""

    claimed: list[float] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    taken_over: list[float] = field(default_factory=list)
    serving_again: list[float] = field(default_factory=list)
    rebalanced: list[float] = field(default_factory=list)
    by_etcd: list[float] = field(default_factory=list)


def run(console: Console) -> Result:
    """Run the benchmark."""
    times = Times()
    for _ in track(range(ROUNDS), "cells", console=console, transient=True):
        with tempfile.TemporaryDirectory(prefix="tabfleet-bench-") as folder:
            _round(Path(folder), times)
    figures = [
        Figure(f"start: {LOGINS} logins claimed by {CELLS} cells", "s", times.claimed),
        Figure("start: all READY", "s", times.ready),
        Figure(f"a killed cell's logins claimed by the others (CLAIM_TTL_S={TTL_S})", "s", times.taken_over),
        Figure("a killed cell's logins READY at the others", "s", times.serving_again),
        Figure("a cell joins: it has its share, READY", "s", times.rebalanced),
    ]
    beside = f"etcd alone: {LOGINS} claims by one client, one after the other"
    rows = [Compared.of_runs("all claimed", "s", times.claimed, beside, times.by_etcd)]
    waits = {policy: mean_wait_s(policy) for policy in POLICIES}
    rows += [
        Compared(
            f"mean wait of a request at load {LOAD:g}: {policy}", "s", waits[policy], "one queue", waits["one queue"]
        )
        for policy in POLICIES
        if policy != "one queue"
    ]
    notes = [
        "A start counts from the first process on. A killed cell's claims end after CLAIM_TTL_S at the latest.",
        f"Waits are simulated: 10 cells of 10 logins, answers of {ANSWER_S:g} s on average (lognormal, sigma 0.8).",
    ]
    return Result("Cells", rows, notes, figures)


def _round(folder: Path, times: Times) -> None:
    write_logins(folder, LOGINS)
    profiles = folder / "active"
    (folder / "session-key").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    (folder / "session-key").chmod(0o600)
    (folder / "etcd").mkdir()
    with etcd_server(folder / "etcd") as etcd, ExitStack() as stack:
        for prefix in ("/tabfleet", "/alone"):
            # Else nothing could be claimed for CLAIM_TTL_S: a store that is empty may have lost its data.
            etcd.members[0].put(f"{prefix}/store/known", b"{}")
        times.by_etcd.append(asyncio.run(_claim_by_etcd_alone(etcd)))
        cells = []
        for number in range(CELLS):
            home = folder / f"cell-{number}"
            home.mkdir()
            ports = wide_range(2 * LOGINS + 1)
            cells.append(Cell(f"cell-{number}", home, ports, ports + 1))

        began = time.monotonic()
        for cell in cells:
            stack.enter_context(_running(cell, etcd, profiles))
        times.claimed.append(_until(lambda: sum(cell.seen()[0] for cell in cells) == LOGINS, began))
        times.ready.append(_until(lambda: sum(cell.seen()[1] for cell in cells) == LOGINS, began))

        fullest = max(cells, key=lambda cell: cell.seen()[0])
        others = [cell for cell in cells if cell is not fullest]
        fullest.kill()
        began = time.monotonic()
        times.taken_over.append(_until(lambda: sum(cell.seen()[0] for cell in others) == LOGINS, began))
        times.serving_again.append(_until(lambda: sum(cell.seen()[1] for cell in others) == LOGINS, began))

        began = time.monotonic()
        stack.enter_context(_running(fullest, etcd, profiles))
        share = LOGINS // CELLS
        times.rebalanced.append(
            _until(lambda: fullest.seen()[1] >= share and sum(cell.seen()[1] for cell in cells) == LOGINS, began)
        )


@contextmanager
def _running(cell: Cell, etcd: Etcd, profiles: Path) -> Iterator[None]:
    command, environment = cell.command(etcd, profiles)
    with run_process(command, cell.folder / "log", environment) as cell.running:
        yield


def _until(condition: Callable[[], bool], began: float) -> float:
    while not condition():
        if time.monotonic() - began > LIMIT_S:
            raise RuntimeError(f"the cells did not come to rest within {LIMIT_S:g} s")
        time.sleep(0.02)
    return time.monotonic() - began


async def _claim_by_etcd_alone(etcd: Etcd) -> float:
    store = EtcdClaims(etcd.urls, timeout_s=30.0, prefix="/alone")
    try:
        await store.register("alone", SharedSettings(60), LOGINS)
        began = time.monotonic()
        for number in range(LOGINS):
            await store.claim(f"{number:04}", f"login {number}")
        took = time.monotonic() - began
        await store.revoke()
        return took
    finally:
        await store.close()


# Waits, simulated

LOAD = 0.85
ANSWER_S = 20.0
_SIGMA = 0.8
_NODES, _LOGINS_EACH, _REQUESTS = 10, 10, 40_000
POLICIES = ("one queue", "three tries in turn, as deploy/balancer", "least busy", "in turn", "at random")


def mean_wait_s(policy: str, *, load: float = LOAD, requests: int = _REQUESTS, seed: int = 1) -> float:
    """Return the mean wait for a free login, in seconds, of so many requests at this load, the first tenth left out.

    A queue with arrivals at random (exponential) and lognormal answers of ANSWER_S on average.
    """
    chance = random.Random(seed)
    nodes = 1 if policy == "one queue" else _NODES
    room = _NODES * _LOGINS_EACH // nodes
    between_s = ANSWER_S / (load * _NODES * _LOGINS_EACH)
    busy, queues, waits = [0] * nodes, [deque[float]() for _ in range(nodes)], list[float]()
    events: list[tuple[float, int, int]] = [(chance.expovariate(1 / between_s), 0, -1)]
    arrived = turn = 0
    while events:
        now, number, node = heapq.heappop(events)
        if node < 0:
            arrived += 1
            if arrived < requests:
                heapq.heappush(events, (now + chance.expovariate(1 / between_s), arrived, -1))
            turn = (turn + 1) % nodes
            loads = [busy[node] + len(queues[node]) for node in range(nodes)]
            node = _chosen(policy, loads, room, turn, chance)
            if busy[node] == room:
                queues[node].append(now)
                continue
            busy[node] += 1
            waits.append(0.0)
        elif queues[node]:
            waits.append(now - queues[node].popleft())
        else:
            busy[node] -= 1
            continue
        # Of a lognormal distribution with this mean: mu = ln(mean) - sigma^2 / 2.
        answer_s = ANSWER_S * chance.lognormvariate(-(_SIGMA**2) / 2, _SIGMA)
        heapq.heappush(events, (now + answer_s, number, node))
    return mean(waits[len(waits) // 10 :])


def _chosen(policy: str, loads: list[int], room: int, turn: int, chance: random.Random) -> int:
    match policy:
        case "at random":
            return chance.randrange(len(loads))
        case "least busy":
            return min(range(len(loads)), key=loads.__getitem__)
        case "three tries in turn, as deploy/balancer":
            tries = [(turn + step) % len(loads) for step in range(3)]
            return next((node for node in tries if loads[node] < room), tries[-1])
    return turn

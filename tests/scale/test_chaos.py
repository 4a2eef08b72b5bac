"""Requests of many kinds through a balancer, while cells, children and the store fail: nothing is lost or given twice.

The clients, and what is compared, are those of `python -m tests.chaos`, which does the same to one coordinator.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest

from tests.cells.balancers import balancer
from tests.chaos.clients import ClientRequest, Clients
from tests.chaos.fake_scenario import fake_request, submissions_in
from tests.chaos.scenario import BEHAVIOURS
from tests.chaos.verification import Result, sha256, verify
from tests.coordinator.program import KEY
from tests.scale.fleet import CELLS, LOGINS, TTL_S, Cell, ScaleFleet, scale_fleet
from tests.scale.saying import Said
from tests.support.json_lines import json_lines
from tests.support.metrics import Metrics

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]

REQUESTS = int(os.environ.get("SCALE_REQUESTS", "800"))
SEED = int(os.environ.get("SCALE_SEED", "0")) or secrets.randbelow(1 << 20)
AT_A_TIME = 10
FAULT_EVERY_S = 0.5
HANG_AFTER_S = 90.0
BRIEF = {"FIRST_TOKEN_TIMEOUT_S": "2", "STREAM_IDLE_TIMEOUT_S": "1.5", "QUEUE_TIMEOUT_S": "5", "DRAIN_TIMEOUT_S": "3"}

OF_CLIENTS = {name: weight for name, weight in BEHAVIOURS.items() if name != "never_read"}
"""Without those that never read: the balancer reads for them, and it is up to it how long it waits."""

Fault: TypeAlias = Callable[[ScaleFleet, Cell, random.Random], Awaitable[None]]


async def kill_child(fleet: ScaleFleet, cell: Cell, rng: random.Random) -> None:
    signal_child(fleet, rng.choice(LOGINS), signal.SIGKILL)


async def stop_child(fleet: ScaleFleet, cell: Cell, rng: random.Random) -> None:
    login = rng.choice(LOGINS)
    signal_child(fleet, login, signal.SIGSTOP)
    await asyncio.sleep(rng.choice((0.3, 1.5, 6.0)))
    signal_child(fleet, login, signal.SIGCONT)


async def kill_cell(fleet: ScaleFleet, cell: Cell, rng: random.Random) -> None:
    await cell.end(signal.SIGKILL)
    await asyncio.sleep(rng.choice((0.1, TTL_S, 3.0 * TTL_S)))
    await cell.start()


async def restart_cell(fleet: ScaleFleet, cell: Cell, rng: random.Random) -> None:
    await cell.end()
    await cell.start()


async def stop_cell(fleet: ScaleFleet, cell: Cell, rng: random.Random) -> None:
    cell.send_signal(signal.SIGSTOP)
    await asyncio.sleep(rng.choice((0.5, 1.5 * TTL_S, 3.0 * TTL_S)))
    cell.send_signal(signal.SIGCONT)


async def cut_cell(fleet: ScaleFleet, cell: Cell, rng: random.Random) -> None:
    fleet.ways.cut(cell.name)
    await asyncio.sleep(rng.choice((0.5, 1.5 * TTL_S, 3.0 * TTL_S)))
    fleet.ways.heal(cell.name)


async def stop_store(fleet: ScaleFleet, cell: Cell, rng: random.Random) -> None:
    fleet.store.send_signal(signal.SIGSTOP)
    await asyncio.sleep(rng.choice((0.5, 1.5 * TTL_S)))
    fleet.store.send_signal(signal.SIGCONT)


OF_CHILDREN: dict[Fault, int] = {kill_child: 6, stop_child: 4}
OF_CELLS: dict[Fault, int] = {kill_cell: 3, restart_cell: 2, stop_cell: 2, cut_cell: 2, stop_store: 1}
"""One of these at a time, as each of them takes a share of the logins away."""


def signal_child(fleet: ScaleFleet, login: str, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(fleet.child_of(login), number)


@contextlib.asynccontextmanager
async def faults(fleet: ScaleFleet, happened: Counter[str]) -> AsyncIterator[None]:
    """Inject faults drawn by the seed while the context lasts; then wait for the end of those that last."""
    rng, tasks, of_cells = random.Random(f"faults {SEED}"), set[asyncio.Task[None]](), asyncio.Lock()

    async def strike(fault: Fault, own: random.Random) -> None:
        cell = fleet.cells[own.choice(CELLS)]
        if fault in OF_CHILDREN:
            await fault(fleet, cell, own)
        elif not of_cells.locked():
            async with of_cells:
                happened[fault.__name__] += 1
                await fault(fleet, cell, own)
                return
        happened[fault.__name__] += fault in OF_CHILDREN

    async def inject() -> None:
        kinds = OF_CHILDREN | OF_CELLS
        while True:
            await asyncio.sleep(rng.expovariate(1 / FAULT_EVERY_S))
            fault = rng.choices(list(kinds), list(kinds.values()))[0]
            tasks.add(asyncio.create_task(strike(fault, random.Random(rng.random()))))

    schedule = asyncio.create_task(inject())
    try:
        yield
    finally:
        schedule.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [end for end in ends if isinstance(end, BaseException)], ends


def request(number: int, rng: random.Random) -> ClientRequest:
    """Return a random request, which no client repeats by itself when a cell is killed.

    The OpenAI client sends a request anew whose whole answer breaks off, whatever was said. Such an answer begins with
    white space where it takes long, but not here. docs/deployment-prod.md tells operators.
    """
    drawn = fake_request(number, rng, OF_CLIENTS)
    if drawn.stream:
        return drawn
    return replace(drawn, extra={"fake": {**drawn.extra["fake"], "keep_alive_s": HANG_AFTER_S}})


def told_of(digest: str, results: list[Result], evidence: Path) -> object:
    """What became of a prompt: for its client, and in the ledgers of the children."""
    client = [(result.ending, result.text[:200]) for result in results if sha256(result.prompt) == digest]
    entries = [(path.name, entry) for path in evidence.glob("*.ledger") for entry in json_lines(path)]
    return client, [(name, entry) for name, entry in entries if entry.get("digest") == digest]


async def test_nothing_is_lost_or_given_twice(tmp_path: Path, say: Said) -> None:
    happened, results = Counter[str](), list[Result]()
    async with scale_fleet(tmp_path, in_namespaces=False, **BRIEF) as fleet:
        await asyncio.gather(*(cell.start() for cell in fleet.cells.values()))
        await fleet.until_shared_out()
        ports = [cell.port for cell in fleet.cells.values()]
        numbers = iter(range(REQUESTS))
        async with balancer("nginx", tmp_path / "nginx", ports, logins=len(LOGINS) // len(CELLS)) as port:
            clients = Clients(
                port,
                hang_after_s=HANG_AFTER_S,
                key=KEY["authorization"].removeprefix("Bearer "),
                behind_balancer=True,
            )

            async def work() -> None:
                for number in numbers:
                    rng = random.Random(f"{SEED} {number}")
                    results.append(await clients.send(request(number, rng), rng))

            try:
                async with operator(fleet), faults(fleet, happened):
                    await asyncio.gather(*itertools.starmap(work, [()] * AT_A_TIME))
            finally:
                await clients.close()
        async with operator(fleet):
            await fleet.until_shared_out()
        found = verify(results, submissions_in(fleet.evidence))
        twice = [told_of(digest, results, fleet.evidence) for digest in found.submitted_twice]
        leases = [await held(cell) for cell in fleet.cells.values()]
        for cell in fleet.cells.values():
            await cell.end()
        left = list(fleet.tmp.glob("*/tabfleet-run-*"))
    rows = {
        "requests": found.requests,
        "answered": found.answered,
        "refused with a proper error": found.refused,
        "left by the client": found.left,
        "wrong answers": len(found.wrong),
        "submitted twice": len(found.submitted_twice),
        "hung clients": len(found.hung),
        "leaked leases": int(sum(leases)),
        "run folders left": len(left),
    }
    say(f"seed {SEED}, three cells behind nginx; faults: {dict(happened)}")
    for name, value in rows.items():
        say(f"{name:28} {value:6}")
    must_be_zero = ("wrong answers", "submitted twice", "hung clients", "leaked leases", "run folders left")
    assert {name: rows[name] for name in must_be_zero} == dict.fromkeys(must_be_zero, 0), (
        found.wrong,
        found.hung,
        twice,
    )
    assert sum(happened.values()) > 5
    assert found.answered > REQUESTS / 4


@contextlib.asynccontextmanager
async def operator(fleet: ScaleFleet) -> AsyncIterator[None]:
    """Do an operator's part while the context lasts: what failed or rests of what faults did to it begins anew."""

    async def repair() -> None:
        while True:
            for cell in fleet.cells.values():
                for child in ((await cell.ready()) or {"children": []})["children"]:
                    if child["state"] in ("FAILED", "RESTING", "STOPPED"):
                        with contextlib.suppress(httpx.HTTPError):
                            await cell.http.post(f"/admin/children/{child['name']}/reset", headers=KEY)
            await asyncio.sleep(0.5)

    task = asyncio.create_task(repair())
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()


async def held(cell: Cell) -> float:
    metrics = Metrics.parse((await cell.http.get("/metrics", headers=KEY)).text)
    return metrics.sum("tabfleet_leases_held") + metrics.sum("tabfleet_queue_length")

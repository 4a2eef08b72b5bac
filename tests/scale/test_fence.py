"""The fence for real: three coordinators and etcd, faults drawn by a seed, and never two browsers on one login.

$SCALE_ROUNDS, $SCALE_SEED and $SCALE_TTL_S change how many rounds there are, which faults they have, and how long claims
last; $SCALE_FAULT has the one fault of this name in each round.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scale.faults import FAULTS, HEAD, Row, least_gap_ms, strike
from tests.scale.fleet import OF_OTHER_CLOCKS, TTL_S, ScaleFleet, scale_fleet
from tests.scale.ways import why_no_namespaces

pytestmark = [pytest.mark.scale, pytest.mark.timeout(1200)]

ROUNDS = int(os.environ.get("SCALE_ROUNDS", "25"))
FAULT = os.environ.get("SCALE_FAULT")
SEED = int(os.environ.get("SCALE_SEED") or random.randrange(10**6))


class Said:
    """Lines for whoever runs the test, also where it passes."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._capture = request.config.pluginmanager.getplugin("capturemanager")

    def __call__(self, line: object) -> None:
        with self._capture.global_and_fixture_disabled() if self._capture else contextlib.nullcontext():
            print(f"\n{line}", end="", flush=True)  # noqa: T201 - see the class


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Said:
    return Said(request)


@pytest.fixture(scope="module")
def has_namespaces() -> bool:
    reason = why_no_namespaces()
    if reason is not None:
        warnings.warn(
            f"NO NETWORK NAMESPACES HERE ({reason}): cells are cut off by relays in the test's process instead, and"
            " nothing is shown of the kernel's own network.",
            stacklevel=1,
        )
    return reason is None


def drawn_faults(pick: random.Random, rounds: int) -> Iterator[str]:
    """Every fault once in an order of its own, again and again."""
    names: list[str] = []
    for _ in range(rounds):
        if not names:
            names = [FAULT] if FAULT else pick.sample(sorted(FAULTS), len(FAULTS))
        yield names.pop()


async def suffer(fleet: ScaleFleet, faults: Iterator[str], pick: random.Random, say: Said) -> list[Row]:
    """Start all cells, and have one fault after another; return what came of each once all logins are served again."""
    clocks = f"{OF_OTHER_CLOCKS} with other clocks" if fleet.clocks_differ else "NO TIME NAMESPACES HERE: one clock"
    say(f"{fleet.ways.kind}; {clocks}; seed {SEED}; leases of {TTL_S} s")
    say(HEAD)
    await asyncio.gather(*(cell.start() for cell in fleet.cells.values()))
    placed = await fleet.until_shared_out()
    rows = []
    for number, fault in enumerate(faults, 1):
        row = await strike(fleet, number, fault, placed, pick)
        placed = await fleet.until_shared_out()
        rows.append(row)
        say(row)
    return rows


def least_gaps(fleet: ScaleFleet) -> dict[str, float]:
    """The least gap between two browsers of each login in all that was noted, in milliseconds; below 0: an overlap."""
    holds = {login: fleet.holds(login) for login in fleet.logins}
    return {login: least_gap_ms(of_login) for login, of_login in holds.items() if len(of_login) > 1}


async def test_no_two_browsers_have_a_login_whatever_is_cut_stopped_or_killed(
    tmp_path: Path, has_namespaces: bool, say: Said
) -> None:
    pick = random.Random(SEED)
    async with scale_fleet(tmp_path, in_namespaces=has_namespaces) as fleet:
        rows = await suffer(fleet, drawn_faults(pick, ROUNDS), pick, say)
        gaps = least_gaps(fleet)
        browsers = sum(len(fleet.holds(login)) for login in fleet.logins)
    overlaps = [gap for gap in gaps.values() if gap < 0]
    say(f"{len(overlaps)} overlaps in {len(rows)} rounds; {browsers} browsers; least gap {min(gaps.values()):.0f} ms")
    assert not overlaps, gaps
    assert len(rows) == ROUNDS

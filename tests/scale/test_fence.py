"""The fence for real: three coordinators and etcd, faults drawn by a seed, and never two browsers on one login.

$SCALE_ROUNDS, $SCALE_SEED and $SCALE_TTL_S change how many rounds there are, which faults they have, and how long
claims last; $SCALE_FAULT has the one fault of this name in each round.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scale.faults import FAULTS, HEAD, Row, least_gap_ms, strike
from tests.scale.fleet import OF_OTHER_CLOCKS, TTL_S, ScaleFleet, scale_fleet
from tests.scale.saying import Said

pytestmark = [pytest.mark.scale, pytest.mark.timeout(1200)]

ROUNDS = int(os.environ.get("SCALE_ROUNDS", "25"))
FAULT = os.environ.get("SCALE_FAULT")
SEED = int(os.environ.get("SCALE_SEED") or random.randrange(10**6))


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


async def test_the_same_over_relays(tmp_path: Path, say: Said) -> None:
    """What stands in for namespaces where there are none is tried where there are some."""
    pick = random.Random(SEED)
    faults = ["cut", "coordinator stopped, cut", "short cut"]
    async with scale_fleet(tmp_path, in_namespaces=False) as fleet:
        rows = await suffer(fleet, iter(faults), pick, say)
        gaps = least_gaps(fleet)
    assert min(gaps.values()) >= 0, gaps
    assert [row.taken_over_s is None for row in rows] == [False, False, True], "a cut did not cut, or cut for too long"


@pytest.mark.parametrize("fault", ["cut", "coordinator stopped"])
async def test_where_claims_are_relied_on_for_too_long_the_test_sees_it(
    tmp_path: Path, has_namespaces: bool, say: Said, fault: str
) -> None:
    """For three times as long as the store keeps them: without the wait, the test of the fence fails."""
    pick = random.Random(SEED)
    async with scale_fleet(tmp_path, in_namespaces=has_namespaces, SCALE_HOLDS_S=str(3 * TTL_S)) as fleet:
        rows = await suffer(fleet, iter([fault]), pick, say)
        gaps = least_gaps(fleet)
    assert rows[0].least_gap_ms is not None
    assert rows[0].least_gap_ms < 0
    assert min(gaps.values()) < 0

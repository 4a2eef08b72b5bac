"""A part of `make chaos`'s table of faults, and that a row can be broken."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS, Fault, Ground, no_descriptor, no_thread, tmp_swept, try_fault

QUICK = [fault for fault in FAULTS if fault.make in (no_descriptor, no_thread, tmp_swept)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]  # the limits of a row, which a busy machine may need


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.make.__name__)
async def test_the_fleet_lives_through_it(fault: Fault, tmp_path: Path) -> None:
    row = await try_fault(fault, tmp_path, seed=1)
    assert row.broken == [], row.text()
    assert row.answered
    assert row.text().endswith("| held |")


@contextlib.asynccontextmanager
async def coordinator_killed(ground: Ground) -> AsyncIterator[None]:
    os.kill(ground.fleet.pid, signal.SIGKILL)
    yield


async def test_a_fault_that_ends_the_coordinator_breaks_its_row(tmp_path: Path) -> None:
    row = await try_fault(Fault("the coordinator is killed", coordinator_killed, {"killed"}), tmp_path, seed=1)
    assert "exit code -9" in row.broken
    assert "BROKEN" in row.text()

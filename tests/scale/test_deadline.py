"""How soon after the deadline the last browser has ended, with eight logins: alone, and four to a browser."""

from __future__ import annotations

import asyncio
import signal
import struct
import time
from pathlib import Path

import pytest

from contract import child_environment
from contract.claim_deadline import boottime
from tests.scale.fleet import COME_BACK_S, TTL_S, scale_fleet
from tests.scale.saying import Said
from tests.support.waiting import eventually, eventually_async

pytestmark = [pytest.mark.scale]

LOGINS = [f"login-{number}" for number in range(8)]
STORE_S = TTL_S * 0.05 + 0.15
"""How much longer than the cell the store keeps a claim, at least."""


def deadline_in(file: Path) -> int:
    """The deadline as children read it, in nanoseconds since boot."""
    (deadline_ns,) = struct.unpack("=Q", file.read_bytes())
    return int(deadline_ns)


@pytest.mark.parametrize("stopped", ["nobody", "coordinator", "children"])
@pytest.mark.parametrize("logins_per_browser", [1, 4])
async def test_all_browsers_end_before_the_store_gives_their_logins_away(
    tmp_path: Path, has_namespaces: bool, say: Said, logins_per_browser: int, stopped: str
) -> None:
    given = {"LOGINS_PER_BROWSER": str(logins_per_browser)}
    async with scale_fleet(tmp_path, in_namespaces=has_namespaces, logins=LOGINS, cells=["east"], **given) as fleet:
        cell = fleet.cells["east"]
        await cell.start()
        await fleet.until_shared_out(["east"])
        file = Path(fleet.told(LOGINS[0], child_environment.CLAIM_DEADLINE_FILE))
        if stopped == "children":
            for pid in {fleet.child_of(login) for login in LOGINS}:
                fleet.stop(pid)
        if stopped == "coordinator":
            cell.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.1)  # it is at most in the middle of an extension
        fleet.ways.cut("east")
        before = {login: fleet.holds(login)[-1].instance for login in LOGINS}
        deadline_ns = 0

        def over() -> bool:
            nonlocal deadline_ns
            deadline_ns = max(deadline_ns, deadline_in(file))
            return 0 < deadline_ns < boottime() * 1e9

        await eventually(over, timeout_s=COME_BACK_S)
        await asyncio.sleep(1.0)
        wall_ns = time.time_ns() - boottime() * 1e9
        last_ns = max(fleet.holds(login)[-1].last_ns for login in LOGINS)
        after_ms = (last_ns - wall_ns - deadline_ns) / 1e6
        say(f"{logins_per_browser} to a browser, {stopped} stopped: last sign {after_ms:.0f} ms after the deadline")
        assert after_ms < STORE_S * 1000, "another cell could have had the login"
        assert {login: fleet.holds(login)[-1].instance for login in LOGINS} == before

        # And all come back, also those of a coordinator that stood still meanwhile.
        fleet.ways.heal("east")
        cell.send_signal(signal.SIGCONT)
        await fleet.until_shared_out(["east"])

        async def all_new() -> bool:
            return all(fleet.holds(login)[-1].instance != before[login] for login in LOGINS)

        await eventually_async(all_new)

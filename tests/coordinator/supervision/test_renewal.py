"""A login that was renewed: the child's next start opens it, and those that follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from browser.page.profile import load_profile, state_to_open
from contract.run_folder import SESSION
from coordinator.errors import ActionRefused, UnknownChild
from coordinator.supervision.lifecycle import Event, Reason, State
from tests.coordinator.fleet import FakeProfile, Fleet, running_fleet
from tests.support.waiting import eventually

RENEWED: dict[str, Any] = {
    "cookies": [
        {"name": "session", "value": "canary-renewed-6e1b", "domain": "chat.example", "path": "/", "expires": -1}
    ],
    "origins": [],
}


def opened_next(fleet: Fleet, profile: FakeProfile) -> list[dict[str, Any]]:
    """Return the cookies that the real child would open now; the profile itself has none."""
    cookies: list[dict[str, Any]] = state_to_open(load_profile(profile.path), fleet.run_root.folder(profile.name).path)[
        "cookies"
    ]
    return cookies


async def test_a_failed_child_goes_on_with_it(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        child = fleet.supervisor.child("a")
        child.fire(Event.LOGIN_EXPIRED, Reason.LOGIN_EXPIRED)
        await fleet.until("a", State.FAILED)
        assert fleet.supervisor.renew("a", RENEWED)
        await fleet.until_start("a", 2)
        assert opened_next(fleet, fleet.profile("a")) == RENEWED["cookies"]
        # It is written once: after that the child's own, rotated, session counts.
        (fleet.run_root.folder("a").path / SESSION).unlink()
        fleet.supervisor.restart("a")
        await fleet.until_start("a", 3)
        assert opened_next(fleet, fleet.profile("a")) == []


async def test_a_running_child_is_restarted_with_it_and_keeps_it(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        assert fleet.supervisor.renew("a", RENEWED)
        await fleet.until_start("a", 2)
        fleet.supervisor.restart("a")
        await fleet.until_start("a", 3)
        assert opened_next(fleet, fleet.profile("a")) == RENEWED["cookies"]


async def test_a_child_on_its_way_out_takes_it_when_it_comes_back(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        fleet.supervisor.drain("a")
        assert not fleet.supervisor.renew("a", RENEWED)
        await fleet.until("a", State.STOPPED)
        fleet.supervisor.reset("a")
        await fleet.until_start("a", 2)
        assert opened_next(fleet, fleet.profile("a")) == RENEWED["cookies"]


async def test_a_new_version_of_the_profile_counts_for_more(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        fleet.supervisor.drain("a")
        fleet.supervisor.renew("a", RENEWED)
        newer = fleet.profile("a", version=2)
        await fleet.supervisor.reconcile([newer])
        await fleet.until("a", State.STOPPED)
        fleet.supervisor.reset("a")
        await fleet.until_start("a", 2)
        assert not (fleet.run_root.folder("a").path / SESSION).exists()
        assert opened_next(fleet, newer) == []


async def test_there_must_be_a_child(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        with pytest.raises(UnknownChild):
            fleet.supervisor.renew("nobody", RENEWED)
        child = fleet.supervisor.child("a")
        await fleet.supervisor.reconcile([])
        await eventually(lambda: child.profile_gone)
        with pytest.raises((UnknownChild, ActionRefused)):
            fleet.supervisor.renew("a", RENEWED)

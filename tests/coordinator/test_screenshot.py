"""Screenshots of children that have none to give: each failure has an error of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.errors import NoPage, PageFailed, PageSilent, UnknownChild
from coordinator.supervision.lifecycle import State
from tests.coordinator.fleet import running_fleet


async def test_a_child_that_is_not_there(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        with pytest.raises(UnknownChild):
            await fleet.supervisor.screenshot("nobody")


async def test_a_child_without_a_process(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        fleet.supervisor.drain("a")
        await fleet.until("a", State.STOPPED)
        with pytest.raises(NoPage, match="STOPPED"):
            await fleet.supervisor.screenshot("a")


async def test_a_child_that_does_not_listen_yet(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, start_timeout_s=60.0) as fleet:
        fleet.plan("b", never_listen=True)
        await fleet.supervisor.reconcile([fleet.profile("a"), fleet.profile("b")])
        await fleet.until("b", State.STARTING)
        with pytest.raises(NoPage):
            await fleet.supervisor.screenshot("b")


async def test_a_child_that_has_no_picture(tmp_path: Path) -> None:
    async with running_fleet(tmp_path) as fleet:
        with pytest.raises(PageFailed, match="404"):  # a fake child has no such route
            await fleet.supervisor.screenshot("a")


async def test_a_child_that_hangs(tmp_path: Path) -> None:
    async with running_fleet(tmp_path, unhealthy_timeout_s=60.0, term_grace_s=0.1) as fleet:
        await fleet.behave("a", hang=True)
        with pytest.raises(PageSilent):
            await fleet.supervisor.screenshot("a")

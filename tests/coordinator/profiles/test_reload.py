"""Reloads that meet an error nobody thought of: it is shown, and the next reload comes all the same."""

from __future__ import annotations

import socket
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest
from structlog.testing import capture_logs

from coordinator.flags import load_settings
from coordinator.fleet import Fleet
from coordinator.main import Coordinator
from coordinator.supervision.events import PublicStatus
from coordinator.supervision.lifecycle import State

SHOWN = "The last reload failed by an error in the program itself; its log has the place."


class Broken:
    """A hydrator with an error in it."""

    def hydrate(self) -> None:
        raise RuntimeError("token-of-ann")


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A fleet that has started, whose hydrator breaks from now on."""
    monkeypatch.setenv("LOCAL_PROFILE_DIR", str(tmp_path))
    parts = {name: Mock() for name in ("launcher", "access", "metrics")}
    parts["launcher"].spares.return_value = None
    fleet = Fleet(load_settings(), hydrator=Broken(), port=0, **parts)  # type: ignore[arg-type]
    fleet._started = True
    return fleet


async def test_an_unexpected_error_is_in_ready_without_its_text(running: Fleet) -> None:
    with capture_logs() as logs, pytest.raises(RuntimeError):
        await running.reload()
    assert running.warnings() == [SHOWN]
    assert [entry["event"] for entry in logs] == ["reload_failed"]


async def test_reloads_by_signal_and_interval_survive_an_unexpected_error(running: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        coordinator = Coordinator(load_settings(), listener, ("launch_camoufox.py",))
    coordinator._fleet = running
    await coordinator._reload()
    assert running.warnings() == [SHOWN]


async def test_of_a_login_that_another_cell_has_nothing_is_told(
    running: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = PublicStatus(
        name="ann",
        state=State.READY,
        reason=None,
        since=0.0,
        restarts=0,
        in_flight=0,
        models=(),
        login_expires_at=0.0,
        login_kept=False,
        warnings=("ends",),
        capture=None,
    )
    elsewhere = msgspec.structs.replace(here, name="bob", held_by="east")
    monkeypatch.setattr(running, "supervisor", Mock(public_snapshot=lambda: (here, elsewhere)))
    assert running.warnings() == ["ann: ends"]
    assert list(running.login_days_left()) == ["ann"]

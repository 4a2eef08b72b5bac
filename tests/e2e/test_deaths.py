"""Processes that are killed or hang: `/ready` reports it, no process outlives its parent, the child is restarted."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.fleet import MODEL, Fleet, Site, alive, command_line, descendants, eventually, fleet, log_in_by_request

# tests/coordinator/supervision/test_failures.py and test_coordinator_death.py kill processes without browsers.
pytestmark = pytest.mark.slow

# Limits for what pidfds report; a probe would take longer. `make bench` shows the usual times.
HANG_LIMIT_S = 30.0


@pytest.fixture(scope="module")
def one(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run a fleet with a single child, ada."""
    folder = tmp_path_factory.mktemp("one")
    profiles = log_in_by_request(site, folder / "active", users=["ada"])
    with fleet(site, profiles, folder / "fleet", BACKOFF_MAX_S="0.5") as running:
        yield running


def parts_of(child: int) -> dict[str, int]:
    """Return the pids of a child, its driver and its browser."""
    below = descendants(child)
    driver = next(pid for pid in below if "run-driver" in command_line(pid))
    browser = descendants(driver)[0]
    return {"child": child, "driver": driver, "browser": browser}


@pytest.mark.parametrize("victim", ["child", pytest.param("driver", marks=pytest.mark.long), "browser"])
def test_a_killed_process_is_reported_cleaned_up_and_replaced(one: Fleet, victim: str) -> None:
    one.wait_for(ada="READY")
    child = one.child_pid("ada")
    family = [child, *descendants(child)]
    restarts = one.children()["ada"]["restarts"]
    os.kill(parts_of(child)[victim], signal.SIGKILL)

    def named() -> bool:
        status, body = one.ready()
        return status == 503 and body["unhealthy"] == ["ada"]

    eventually(named, timeout_s=HANG_LIMIT_S, what=f"/ready to report the killed {victim}")
    eventually(lambda: not alive(family), timeout_s=HANG_LIMIT_S, what="the end of all its processes")
    one.wait_for(ada="READY")
    assert one.ready()[0] == 200
    assert one.children()["ada"]["restarts"] == restarts + 1
    assert one.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "back?"}]).choices


def test_a_stopped_browser_is_reported_and_serves_again_after_sigcont(one: Fleet) -> None:
    one.wait_for(ada="READY")
    child = one.child_pid("ada")
    browser = parts_of(child)["browser"]
    os.killpg(browser, signal.SIGSTOP)
    try:
        eventually(lambda: one.ready()[1]["unhealthy"] == ["ada"], timeout_s=HANG_LIMIT_S, what="the hang")
        assert one.ready()[0] == 503
        assert one.children()["ada"]["reason"] == "browser_lost"
    finally:
        os.killpg(browser, signal.SIGCONT)
    one.wait_for(ada="READY")
    assert one.child_pid("ada") == child


def test_nothing_outlives_a_killed_coordinator(site: Site, profiles: Path, tmp_path: Path) -> None:
    with fleet(site, profiles, tmp_path / "fleet") as running:
        running.wait_for(ada="READY", grace="READY")
        family = descendants(running.process.pid)
        assert len(family) > 10
        running.process.kill()
        eventually(lambda: not alive(family), timeout_s=HANG_LIMIT_S, what="the end of all processes")


@pytest.mark.long  # test_demo.py ends a fleet by Ctrl-C
def test_sigterm_stops_everything_and_leaves_nothing(
    site: Site, profiles: Path, tmp_path: Path, empty_tmp: Path
) -> None:
    with fleet(site, profiles, tmp_path / "fleet", TMPDIR=str(empty_tmp)) as running:
        running.wait_for(ada="READY", grace="READY")
        family = descendants(running.process.pid)
    assert running.process.returncode == 0
    assert not alive(family)
    assert list(empty_tmp.iterdir()) == []

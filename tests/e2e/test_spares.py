"""A start in a spare browser, in real ones: it serves, and nothing of a spare outlives what it was kept for."""

from __future__ import annotations

import os
import signal
import urllib.request
from pathlib import Path

import pytest

from contract.run_folder import read_processes
from tests.e2e.fleet import MODEL, Fleet, Site, alive, command_line, descendants, eventually, fetch, fleet
from tests.support.metrics import Metrics
from tests.support.waiting import HANG_LIMIT_S

pytestmark = pytest.mark.slow


def hosts(running: Fleet) -> set[int]:
    """The pids of all hosts, spares among them."""
    return {pid for pid in descendants(running.process.pid) if "--host" in command_line(pid)}


def until_spare(running: Fleet) -> None:
    """Wait until one spare is up."""
    eventually(lambda: running.ready()[1]["spare_browsers"] == 1, timeout_s=90, what=running.log)


def spare(running: Fleet) -> int:
    """Wait until the one spare is up, and return its pid: no child has it."""
    until_spare(running)
    (pid,) = hosts(running) - {running.child_pid(name) for name in running.children()}
    return pid


def metrics(running: Fleet) -> Metrics:
    request = urllib.request.Request(f"{running.url}/metrics", headers={"authorization": f"Bearer {running.key}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return Metrics.parse(response.read().decode())


@pytest.mark.parametrize(
    ("engine", "logins_per_browser"),
    [
        ("chromium", "1"),
        ("chromium", "2"),
        pytest.param("firefox", "2", marks=pytest.mark.firefox),
        # How many logins a host takes is no matter of the engine.
        pytest.param("firefox", "1", marks=[pytest.mark.firefox, pytest.mark.long]),
    ],
)
def test_a_start_in_a_spare_is_ready_and_serves(
    site: Site, profiles: Path, tmp_path: Path, engine: str, logins_per_browser: str
) -> None:
    (profiles / "grace.json").unlink()
    given = {"SPARE_BROWSERS": "1", "LOGINS_PER_BROWSER": logins_per_browser, "BROWSER_ENGINE": engine}
    if engine != "chromium":
        given["BROWSER_EXECUTABLE"] = ""
    with fleet(site, profiles, tmp_path / "fleet", **given) as running:
        running.wait_for(ada="READY", timeout_s=90)
        kept = spare(running)
        key = {"authorization": f"Bearer {running.key}"}
        assert fetch(f"{running.url}/admin/children/ada/restart", headers=key, method="POST")[0] == 202
        eventually(lambda: running.children()["ada"]["restarts"] == 1, timeout_s=HANG_LIMIT_S)
        running.wait_for(ada="READY", timeout_s=90)
        assert running.child_pid("ada") == kept
        answer = running.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "hello"}])
        assert answer.choices[0].message.content
        assert spare(running) != kept
        seen = metrics(running)
        assert seen.sum("tabfleet_spare_browsers") == 1
        assert seen.sum("tabfleet_spare_browsers_taken_total") == 1
        assert seen.sum("tabfleet_spare_browser_failures_total") == 0


def test_a_spare_is_replaced_when_it_or_its_browser_dies(site: Site, profiles: Path, tmp_path: Path) -> None:
    given = {"SPARE_BROWSERS": "1"}
    with fleet(site, profiles, tmp_path / "fleet", **given) as running:
        running.wait_for(ada="READY", grace="READY")
        first = spare(running)
        family = [first, *descendants(first)]
        os.kill(first, signal.SIGKILL)
        eventually(lambda: not alive(family), timeout_s=HANG_LIMIT_S, what=family)
        second = spare(running)
        assert second != first
        (folder,) = Path(running.environment["TMPDIR"]).glob("tabfleet-run-*")
        host = next(host for host in (folder / "hosts").iterdir() if _is_of(host, descendants(second)))
        os.kill(read_processes(host)["browser"].pid, signal.SIGKILL)
        eventually(lambda: not alive([second]), timeout_s=HANG_LIMIT_S, what=second)
        assert spare(running) not in (first, second)
        assert metrics(running).sum("tabfleet_spare_browser_failures_total") == 2
        assert running.children()["ada"]["restarts"] == running.children()["grace"]["restarts"] == 0


def _is_of(host: Path, pids: list[int]) -> bool:
    processes = read_processes(host)
    return "browser" in processes and processes["browser"].pid in pids


def test_a_killed_coordinator_leaves_no_spare(site: Site, profiles: Path, tmp_path: Path, empty_tmp: Path) -> None:
    given = {"SPARE_BROWSERS": "1", "TMPDIR": str(empty_tmp)}
    with fleet(site, profiles, tmp_path / "fleet", **given) as running:
        running.wait_for(ada="READY", grace="READY")
        assert spare(running)
        family = descendants(running.process.pid)
        (folder,) = empty_tmp.glob("tabfleet-run-*")
        running.process.kill()
        running.process.wait()
        eventually(lambda: not alive(family), timeout_s=HANG_LIMIT_S, what=family)
        assert len(list((folder / "hosts").iterdir())) == 3
        with fleet(site, profiles, tmp_path / "again", **given):  # the next one takes what is left away
            eventually(lambda: not folder.exists(), timeout_s=HANG_LIMIT_S)


def test_a_stop_ends_a_spare_that_is_up_and_one_that_still_starts(site: Site, profiles: Path, tmp_path: Path) -> None:
    with fleet(site, profiles, tmp_path / "fleet", SPARE_BROWSERS="2") as running:
        running.wait_for(ada="READY", grace="READY")
        until_spare(running)
        eventually(lambda: len(hosts(running)) == 4, timeout_s=HANG_LIMIT_S, what="the second spare's start")
        family = descendants(running.process.pid)
        running.process.terminate()
        assert running.process.wait(HANG_LIMIT_S) == 0
        assert not alive(family)
        assert not list(Path(running.environment["TMPDIR"]).glob("tabfleet-run-*"))
        assert "stop_incomplete" not in running.log.read_text()

"""Two logins in one real browser: both serve, one is restarted alone, and both come back when the browser is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.fleet import MODEL, Fleet, Site, alive, command_line, descendants, eventually, fetch, fleet
from tests.support.waiting import HANG_LIMIT_S

pytestmark = pytest.mark.slow


def pids(running: Fleet) -> dict[str, int]:
    return {name: running.child_pid(name) for name in ("ada", "grace")}


def answers(running: Fleet) -> None:
    for number in range(4):  # idle children take turns
        answer = running.client().chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": f"hello {number}"}]
        )
        assert answer.choices[0].message.content


def test_two_logins_share_a_browser(site: Site, profiles: Path, tmp_path: Path) -> None:
    given = {"LOGINS_PER_BROWSER": "2", "BACKOFF_MAX_S": "0.5", "UNHEALTHY_TIMEOUT_S": "3"}
    with fleet(site, profiles, tmp_path / "fleet", **given) as running:
        running.wait_for(ada="READY", grace="READY")
        host = pids(running)["ada"]
        assert set(pids(running).values()) == {host}
        (driver,) = [pid for pid in descendants(host) if "run-driver" in command_line(pid)]
        answers(running)

        key = {"authorization": f"Bearer {running.key}"}
        status, _ = fetch(f"{running.url}/admin/children/ada/restart", headers=key, method="POST")
        assert status < 300
        eventually(lambda: running.children()["ada"]["restarts"] == 1, timeout_s=HANG_LIMIT_S)
        running.wait_for(ada="READY", grace="READY")
        assert set(pids(running).values()) == {host}
        assert running.children()["grace"]["restarts"] == 0
        answers(running)

        family = [host, *descendants(host)]
        os.killpg(descendants(driver)[0], signal.SIGKILL)
        eventually(lambda: running.children()["grace"]["restarts"] == 1, timeout_s=HANG_LIMIT_S)
        running.wait_for(ada="READY", grace="READY")
        eventually(lambda: not alive(family), timeout_s=HANG_LIMIT_S, what=family)
        answers(running)

        hangs = pids(running)["ada"]
        os.kill(hangs, signal.SIGSTOP)
        eventually(lambda: running.children()["grace"]["restarts"] == 2, timeout_s=HANG_LIMIT_S)
        running.wait_for(ada="READY", grace="READY")
        assert hangs not in pids(running).values()
        answers(running)

        family = descendants(running.process.pid)
        running.process.kill()
        eventually(lambda: not alive(family), timeout_s=HANG_LIMIT_S, what=family)

"""A site that rotates its session cookie with each request: a killed child is still logged in after its restart."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.fleet import MODEL, Fleet, Site, demo_site, eventually, fleet, log_in_by_request

COOKIE = "demo_session"
KILLS = 2


@pytest.fixture
def rotating() -> Iterator[Site]:
    """Run a site for this test: on the shared one, other tests use the same account."""
    with demo_site() as site:
        yield site


@pytest.mark.long  # tests/browser/page/test_losses.py shows it of a page that is closed
def test_a_killed_child_is_still_logged_in(rotating: Site, tmp_path: Path, empty_tmp: Path) -> None:
    profiles = log_in_by_request(rotating, tmp_path / "active", users=["ada"])
    rotating.fault("rotate_sessions")
    with fleet(rotating, profiles, tmp_path / "fleet", TMPDIR=str(empty_tmp), BACKOFF_MAX_S="0.5") as running:
        running.wait_for(ada="READY")
        for kills in range(KILLS):
            assert _ask(running, f"before kill {kills}")
            # Without rotation, the saved cookie can be tried without invalidating the browser's.
            rotating.clear_faults()
            eventually(lambda: _is_accepted(rotating, _saved(empty_tmp)), timeout_s=30, what="the saved session")
            os.kill(running.child_pid("ada"), signal.SIGKILL)
            rotating.fault("rotate_sessions")
            eventually(lambda: running.children()["ada"]["restarts"] > kills, timeout_s=30, what="the restart")  # noqa: B023
            running.wait_for(ada="READY")
        assert _ask(running, "after all")
        assert running.children()["ada"]["restarts"] == KILLS
        assert "login_expired" not in running.log.read_text()
    rotating.clear_faults()
    assert not _is_accepted(rotating, _cookie(json.loads((profiles / "ada.json").read_text())))


def _ask(running: Fleet, prompt: str) -> str | None:
    answer = running.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
    return answer.choices[0].message.content


def _saved(tmp: Path) -> str | None:
    """Return the session cookie that the next start would use."""
    (path,) = tmp.glob("tabfleet-run-*/children/*/session.json")
    return _cookie(json.loads(path.read_text())["storage_state"])


def _cookie(state: dict[str, list[dict[str, str]]]) -> str | None:
    return next((cookie["value"] for cookie in state["cookies"] if cookie["name"] == COOKIE), None)


def _is_accepted(site: Site, cookie: str | None) -> bool:
    connection = HTTPConnection(urlsplit(site.url).netloc, timeout=30)
    try:
        connection.request("GET", "/api/me", headers={"cookie": f"{COOKIE}={cookie}"})
        return connection.getresponse().status == 200
    finally:
        connection.close()

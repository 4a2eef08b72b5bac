"""Two files of one login, with other analytics cookies: one browser, whoever starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.exit_codes import ExitCode
from tests.e2e.fleet import ROOT, Site, end, eventually, fetch, fleet, log_in_by_request
from tests.support.ports import free_range
from tests.support.waiting import HANG_LIMIT_S

ANALYTICS = {"name": "_visits", "path": "/", "expires": -1, "httpOnly": False, "secure": False, "sameSite": "Lax"}


@pytest.fixture
def two_files(site: Site, tmp_path: Path) -> Path:
    """The folder of ada.json and again.json, which differ in a cookie that a page has set."""
    folder = log_in_by_request(site, tmp_path / "active", users=["ada"])
    state: dict[str, Any] = json.loads((folder / "ada.json").read_text())
    for name, visits in (("ada", "1"), ("again", "2")):
        analytics = {**ANALYTICS, "value": visits, "domain": state["cookies"][0]["domain"]}
        (folder / f"{name}.json").write_text(json.dumps({**state, "cookies": [*state["cookies"], analytics]}))
    return folder


@pytest.mark.long  # tests/coordinator/profiles shows the choice without a browser
def test_a_coordinator_starts_one_browser(site: Site, two_files: Path, tmp_path: Path) -> None:
    with fleet(site, two_files, tmp_path / "fleet") as running:
        running.wait_for(ada="READY")
        assert list(running.children()) == ["ada"]
        reason = "holds the same login as ada.json; one login is used by one browser at a time"
        assert running.ready()[1]["rejected_profiles"] == [{"name": "again.json", "reason": reason}]


@contextlib.contextmanager
def child(site: Site, profile: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A child that is started by hand."""
    options = {"--site": "demo", "--engine": "chromium", "--active-auth-json": profile, "--server-port": port}
    words = [str(word) for option in {**options, "--stream-port": port + 1}.items() for word in option]
    process = subprocess.Popen(
        [sys.executable, "launch_camoufox.py", *words],
        cwd=ROOT,
        env={**os.environ, "SITE_URL": site.url},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        end(process)


def test_of_two_children_started_by_hand_the_second_ends(site: Site, two_files: Path) -> None:
    port = free_range(4)
    with child(site, two_files / "ada.json", port) as first:
        eventually(lambda: _is_ready(first, port), timeout_s=60, what="the first child")
        with child(site, two_files / "again.json", port + 2) as second:
            _, said = second.communicate(timeout=60)
            assert second.returncode == 73
            assert ExitCode(73) is ExitCode.PROFILE_LOCKED
        assert "profile again.json: its login is in use by another browser" in said
        assert _is_ready(first, port)
        first.send_signal(signal.SIGINT)  # as Ctrl-C in the terminal that it was started in
        assert first.wait(HANG_LIMIT_S) == ExitCode.STOPPED


def _is_ready(process: subprocess.Popen[str], port: int) -> bool:
    assert process.poll() is None, process.stderr and process.stderr.read()
    try:
        return fetch(f"http://127.0.0.1:{port}/ready")[0] == 200
    except OSError:
        return False

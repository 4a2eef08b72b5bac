"""Chat apps that are killed while nobody asks anything: how long `/ready` goes on to call their login ready."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from browser.page.login_check import AWAY_AFTER_CHECKS
from tests.e2e.fleet import Fleet, Site, eventually, fleet
from tests.sites.chat_app import APPS, chat_app, log_in_by_hand
from tests.support.json_lines import json_lines
from tests.support.ports import NOWHERE

pytestmark = [pytest.mark.sites, pytest.mark.timeout(600)]

QUICKEST = ("shiny", "streamlit")
START_TIMEOUT_S = 200.0  # on a busy machine Firefox alone takes a minute to start
NOTICED_TIMEOUT_S = 120.0  # as above; what counts is the number of checks
CASES = [
    pytest.param(name, engine, marks=() if engine == "chromium" and name in QUICKEST else pytest.mark.long)
    for name in APPS
    for engine in ("chromium", "firefox")
]


@pytest.mark.parametrize(("app_name", "engine"), CASES)
def test_ready_lies_for_no_more_than_three_checks(app_name: str, engine: str, tmp_path: Path) -> None:
    for folder in ("app", "active"):
        (tmp_path / folder).mkdir()
    settings = {"CHAT_SITE": app_name, "BROWSER_ENGINE": engine, "HTTPS_PROXY": NOWHERE, "LOGIN_CHECK_S": "1"}
    settings["START_TIMEOUT_S"] = str(START_TIMEOUT_S)
    with chat_app(app_name, tmp_path / "app") as app:
        log_in_by_hand(app, tmp_path / "active/ada.json")
        with fleet(Site(f"{app.url}/", ""), tmp_path / "active", tmp_path / "fleet", **settings) as running:
            running.wait_for(START_TIMEOUT_S, ada="READY")
            assert running.ready()[0] == 200
            said = running.log.stat().st_size
            app.kill()
            seen = eventually(lambda: not_ready(running), timeout_s=NOTICED_TIMEOUT_S, what="a /ready that is not 200")
            assert seen
            assert seen["reason"] == "site_unreachable"
            before = itertools.takewhile(lambda event: event.get("reason") != "site_unreachable", events(running, said))
            unanswered = [event for event in before if event["event"] == "login_check_unanswered"]
            assert len(unanswered) <= AWAY_AFTER_CHECKS
            app.start()
            if app.kind.forgets_logins:  # that it does shows that the page is in touch with it again
                running.wait_for(NOTICED_TIMEOUT_S, ada="FAILED")
                assert running.children()["ada"]["reason"] == "login_expired"
                return
            running.wait_for(NOTICED_TIMEOUT_S, ada="READY")
            asked = [{"role": "user", "content": "after the outage"}]
            answer = running.client().chat.completions.create(model=app_name, messages=asked)  # type: ignore[arg-type]
            assert answer.choices[0].message.content
            assert running.children()["ada"]["restarts"] == 0


def not_ready(running: Fleet) -> dict[str, Any] | None:
    """Return the child as a `/ready` shows it that is not 200."""
    status, body = running.ready()
    child: dict[str, Any] = body["children"][0]
    return child if status != 200 else None


def events(running: Fleet, since: int) -> list[dict[str, Any]]:
    """Return what was logged of the child from a position in the log's file on, in order."""
    return [event for event in json_lines(running.log, since_bytes=since) if event.get("child") == "ada"]

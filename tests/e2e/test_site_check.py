"""A page that is not what its site file says, and site files that change under a running fleet: real browsers."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from browser.site.load import SITES_DIR
from tests.e2e.fleet import MODEL, Fleet, demo_site, eventually, fleet, log_in_by_request
from tests.support.json_lines import json_lines

pytestmark = pytest.mark.slow

HANG_LIMIT_S = 120.0
SEND = '{ click = "[data-testid=send]" }'
NEW_CHAT = '{ click = "[data-testid=new-chat]" }'
GONE = '{ timeout_s = 1.0, click = "#gone" }'


def site_file(*changes: tuple[str, str]) -> str:
    text = (SITES_DIR / "demo.toml").read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def line_of(text: str) -> int:
    (line,) = (at for at, found in enumerate(text.splitlines(), 1) if "#gone" in found)
    return line


def checked(running: Fleet) -> dict[str, Any]:
    (one,) = running.ready()[1]["site_checks"]
    assert isinstance(one, dict)
    return one


def ask(running: Fleet, prompt: str) -> str:
    answer = running.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
    return answer.choices[0].message.content or ""


def metrics(running: Fleet) -> str:
    request = urllib.request.Request(f"{running.url}/metrics", headers={"authorization": f"Bearer {running.key}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read().decode()
    assert isinstance(text, str)
    return text


def logged(running: Fleet, name: str) -> list[dict[str, Any]]:
    return [event for event in json_lines(running.log) if event["event"] == name]


def test_a_changed_page_is_named_and_site_files_are_tried_before_they_are_used(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    changed = site_file((SEND, GONE))
    file.write_text(changed)
    with demo_site() as site:
        profiles = log_in_by_request(site, tmp_path / "active")
        with fleet(site, profiles, tmp_path / "fleet", CHAT_SITE=str(file), SITE_CHECK_S="3") as running:
            running.wait_for(ada="READY", grace="READY")

            # What children do not see until a prompt comes, the canary names.
            eventually(lambda: checked(running)["ok"] is False, timeout_s=HANG_LIMIT_S, what="the change")
            found = checked(running)
            place = {"file": "mine.toml", "line": line_of(changed), "key": "send.actions[0].click", "selector": "#gone"}
            assert {name: found[name] for name in place} == place
            assert found["step"] == "send is there"
            (warning,) = running.ready()[1]["warnings"]
            assert f"look at mine.toml, line {line_of(changed)} (send.actions[0].click): '#gone'" in warning
            (event,) = logged(running, "site_changed")
            assert {name: event[name] for name in place} == place
            assert 'tabfleet_site_check_ok{site="mine"} 0.0' in metrics(running)
            assert site.ledger() == [], "nothing was sent"

            # A file that fits is taken, by one child after another, and requests go on.
            file.write_text(site_file())
            eventually(lambda: checked(running)["ok"], timeout_s=HANG_LIMIT_S, what="the recovery")
            assert ask(running, "with the new file")
            assert len(logged(running, "site_recovered")) == 1
            assert running.ready()[1]["warnings"] == []
            running.wait_for(ada="READY", grace="READY")

            # One that does not is refused, and all go on with the old one.
            bad = site_file((NEW_CHAT, GONE))
            starts = len(logged(running, "child_started"))
            file.write_text(bad)
            eventually(lambda: checked(running)["new_file"], timeout_s=HANG_LIMIT_S, what="the refusal")
            refused = checked(running)["new_file"]
            assert refused.startswith("refused: step 'fresh chat' fails on ")
            assert refused.endswith(f"look at mine.toml, line {line_of(bad)} (fresh_chat.actions[0].click): '#gone'")
            assert ask(running, "with the old file")
            assert len(logged(running, "child_started")) == starts
            assert str(tmp_path) not in json.dumps(running.ready()[1])


@pytest.mark.long
def test_a_file_that_fits_takes_the_place_of_one_with_which_no_child_gets_ready(tmp_path: Path) -> None:
    """The page of children that are not READY is checked where none is, and the mended file is tried on it."""
    file = tmp_path / "mine.toml"
    changed = site_file((NEW_CHAT, GONE))
    file.write_text(changed)
    with demo_site() as site:
        profiles = log_in_by_request(site, tmp_path / "active")
        with fleet(site, profiles, tmp_path / "fleet", CHAT_SITE=str(file), SITE_CHECK_S="3") as running:
            eventually(lambda: checked(running)["ok"] is False, timeout_s=HANG_LIMIT_S, what="the change")
            assert running.ready()[0] == 503
            assert (checked(running)["line"], checked(running)["step"]) == (line_of(changed), "fresh chat")
            file.write_text(site_file())
            running.wait_for(HANG_LIMIT_S, ada="READY", grace="READY")
            eventually(lambda: checked(running)["ok"], timeout_s=HANG_LIMIT_S, what="the recovery")
            assert ask(running, "with the new file")
            assert [event["file"] for event in logged(running, "site_file_taken")] == ["mine.toml"]

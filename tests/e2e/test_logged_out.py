"""A profile whose session has ended: it fails with its reason, and the others serve."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.fleet import MODEL, Site, fleet


# tests/browser/page/test_losses.py and tests/coordinator/supervision/test_supervisor.py show the two halves
@pytest.mark.long
def test_a_logged_out_profile_fails_with_its_reason_and_the_other_serves(
    site: Site, profiles: Path, tmp_path: Path
) -> None:
    expired = json.loads((profiles / "grace.json").read_text())
    for cookie in expired["cookies"]:
        cookie["value"] = "no-session-of-this-site"
    (profiles / "grace.json").write_text(json.dumps(expired))
    with fleet(site, profiles, tmp_path / "fleet") as running:
        running.wait_for(ada="READY", grace="FAILED")
        status, body = running.ready()
        grace = running.children()["grace"]
        assert (status, body["unhealthy"]) == (200, ["grace"])
        assert (grace["reason"], grace["restarts"]) == ("login_expired", 0)
        for number in range(3):
            messages = [{"role": "user", "content": f"still there? {number}"}]
            running.client().chat.completions.create(model=MODEL, messages=messages)  # type: ignore[arg-type]
        after = running.children()["grace"]
        assert (after["state"], after["since"], after["restarts"]) == ("FAILED", grace["since"], 0)

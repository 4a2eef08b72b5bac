"""A login of a chat app that nobody here wrote outlives the ends of all around it, with a cookie that changes."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.e2e.fleet import Site, eventually
from tests.e2e.lasting import RESTART_S, LastingFleet, SessionStore, lasting_fleet
from tests.sites.chat_app import ChatApp
from tests.support.ports import NOWHERE
from tests.support.size import size

pytestmark = [pytest.mark.sites, pytest.mark.timeout(size(1200, 3600))]

LOGIN = ("access_token", "access-token-unsecure-")
"""How the names begin of the cookies that are the logins of Chainlit and of Gradio."""


@pytest.fixture(params=["chainlit", "gradio"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChatApp]:
    """Run each app with a cookie that changes whenever its page is loaded."""
    (folder := tmp_path / "app").mkdir()
    running = ChatApp(request.param, folder, rotates=True)
    try:
        running.start()
        yield running
    finally:
        running.kill()


def test_a_changing_login_outlives_restarts_of_everything(app: ChatApp, tmp_path: Path) -> None:
    """Coordinator, child and browser end together, by SIGKILL and in order by turns, each time with a new cookie."""
    store = SessionStore(tmp_path / "store")
    (profile := tmp_path / "active" / "ada.json").parent.mkdir(mode=0o700)
    profile.write_text(json.dumps(app.log_in()))
    settings = {"CHAT_SITE": app.name, "HTTPS_PROXY": NOWHERE, "START_TIMEOUT_S": str(RESTART_S)}
    cookies = [login_cookie(json.loads(profile.read_text()))]
    with (
        tempfile.TemporaryDirectory(prefix="e2e-", dir="/tmp") as tmp,
        lasting_fleet(
            Site(f"{app.url}/", ""), profile.parent, tmp_path / "fleet", **settings, **store.environment, TMPDIR=tmp
        ) as lasting,
    ):
        for number in range(size(2, 10)):
            ask(app, lasting, f"number {number} [[words=3]]")
            cookies.append(changed(store, cookies))
            assert store.in_plain(set(cookies), Path(tmp)) == []
            (lasting.kill_coordinator, lasting.restart_coordinator)[number % 2]()
        ask(app, lasting, "after all [[words=3]]")
        log = lasting.log()
    assert [entry for entry in app.entries() if "spent" in entry] == []
    assert "login_expired" not in log
    assert not [cookie for cookie in cookies if cookie in log]
    (profiles_own,) = json.loads(profile.read_text())["cookies"]
    header = {"cookie": f"{profiles_own['name']}={profiles_own['value']}"}
    with pytest.raises(HTTPError, match="401"):  # what a restart from the profile would have come to
        urlopen(Request(f"{app.url}/", headers=header), timeout=RESTART_S)


def ask(app: ChatApp, lasting: LastingFleet, prompt: str) -> None:
    """Wait for the child, and see that the app gets the prompt once and its answer comes back."""
    lasting.running.wait_for(RESTART_S, ada="READY")
    answer = lasting.running.client().chat.completions.create(
        model=app.name, messages=[{"role": "user", "content": prompt}]
    )
    assert hashlib.sha256(prompt.encode()).hexdigest() in (answer.choices[0].message.content or "")
    assert len([entry for entry in app.entries() if entry.get("prompt") == prompt]) == 1


def changed(store: SessionStore, before: list[str]) -> str:
    """Wait until the store holds a login that it did not hold before, and return that."""

    def look() -> str:
        cookie = login_cookie(store.states().get("ada", {}))
        return cookie if cookie not in before else ""

    return eventually(look, timeout_s=RESTART_S, what="a changed cookie in the store")


def login_cookie(state: dict[str, Any]) -> str:
    """Return the value of the login's cookie; empty where there is none."""
    return next((str(one["value"]) for one in state.get("cookies", []) if one["name"].startswith(LOGIN)), "")

"""A page whose login another coordinator may have claimed: it sends no prompt any more, and saves no session.

There is no `claim_watch` here, which would end the browser: what it comes too late for is what is tested.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from browser.errors import ClaimLost
from browser.page import chat_page
from browser.page.profile import load_profile, save_session
from contract.claim_deadline import ClaimDeadline, ClaimDeadlineFile, boottime
from contract.run_folder import SESSION, SUBMITTED, mark_submitted, read_submitted
from contract.sessions.errors import BadSession
from contract.sessions.grant import Grant, write_grant
from contract.sessions.store import SessionFile
from demo.site import DemoSite
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, demo_file
from tests.browser.profiles import cookie_state, write_profile

STATE: dict[str, Any] = {
    "cookies": [{"name": "a", "value": "1", "domain": "chat.example.com", "path": "/", "expires": -1}],
    "origins": [],
}


@pytest.fixture
def deadline(tmp_path: Path) -> ClaimDeadlineFile:
    """The deadline of claims that hold, and will for an hour."""
    writer = ClaimDeadlineFile(tmp_path / "deadline")
    writer.extend(boottime() + 3600)
    return writer


async def test_after_the_deadline_no_prompt_is_sent_and_none_is_marked(
    pages: Pages,
    demo: DemoSite,
    tmp_path: Path,
    deadline: ClaimDeadlineFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_dir, claim = tmp_path / "run", ClaimDeadline(tmp_path / "deadline")
    run_dir.mkdir()
    page = await pages.open(demo_file(demo), cookie_state(demo), run_dir=run_dir, claim=claim)
    check_answer(await ask(page, "while it holds", request_id="first"), "while it holds", last(demo))
    noted = (run_dir / SUBMITTED).read_text()

    deadline.end()
    with pytest.raises(ClaimLost, match="nothing was sent") as caught:
        await ask(page, "too late", request_id="second")
    assert not caught.value.submitted
    assert (run_dir / SUBMITTED).read_text() == noted

    deadline.extend(boottime() + 3600)

    def mark_slowly(folder: Path, request_id: str) -> None:
        mark_submitted(folder, request_id)
        deadline.end()

    # It passes while the mark is on its way to the disk.
    monkeypatch.setattr(chat_page, "mark_submitted", mark_slowly)
    with pytest.raises(ClaimLost) as caught:
        await ask(page, "too late", request_id="third")
    assert not caught.value.submitted
    assert not page.was_submitted("third")
    assert read_submitted(run_dir) == frozenset({"first"})

    deadline.extend(boottime() + 3600)

    def full(_: Path, __: str) -> None:
        raise OSError(28, "No space left on device")

    # And the mark cannot be taken back: whoever reads it must take the prompt for sent.
    monkeypatch.setattr(chat_page, "unmark_submitted", full)
    with pytest.raises(ClaimLost) as caught:
        await ask(page, "too late", request_id="fourth")
    assert caught.value.submitted
    assert read_submitted(run_dir) == frozenset({"first", "fourth"})
    assert [entry.prompt for entry in demo.ledger.entries()] == ["while it holds"]


@pytest.mark.parametrize("has_store", [False, True])
def test_after_the_deadline_no_session_is_saved(tmp_path: Path, deadline: ClaimDeadlineFile, has_store: bool) -> None:
    saved, claim = tmp_path / SESSION, ClaimDeadline(tmp_path / "deadline")
    if has_store:
        file = SessionFile(tmp_path, "ada")
        write_grant(tmp_path, Grant(str(tmp_path), "ada", file.grant("a").number, "a"))
        saved = file.path
    profile = load_profile(write_profile(tmp_path / "ada.json", STATE))
    save_session(profile, STATE, tmp_path, claim)
    before = saved.read_bytes()
    deadline.end()
    with pytest.raises(BadSession, match="is not written: the claim of the login is over"):
        save_session(profile, {**STATE, "cookies": [{**STATE["cookies"][0], "value": "2"}]}, tmp_path, claim)
    assert saved.read_bytes() == before
    assert json.loads(before)["storage_state"] == STATE
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "no draft is left"

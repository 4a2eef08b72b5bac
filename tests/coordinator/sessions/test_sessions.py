"""The coordinator's part of the session store: grants, what is in plain where there is a key, and warnings."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from contract.child_api import SessionReport
from contract.sessions.errors import NotGranted
from contract.sessions.grant import Grant, read_grant
from contract.sessions.record import SavedSession
from contract.sessions.store import SessionFile
from coordinator.errors import ActionRefused, SettingsError
from coordinator.logins.saver import ChildSaver
from coordinator.sessions import Sessions
from coordinator.supervision.events import ChildCleaned, SessionReported
from coordinator.supervision.supervisor import Supervisor
from tests.support import age

STATE: dict[str, object] = {"cookies": [], "canary": "canary-cookie-52ab"}


def granted(sessions: Sessions, run_dir: Path, name: str = "ann") -> Grant:
    """Begin a start as the launcher does, and return what its child reads."""
    run_dir.mkdir(exist_ok=True)
    sessions.grant(name, run_dir)
    grant = read_grant(run_dir)
    assert grant is not None
    return grant


def saved(grant: Grant) -> SavedSession | None:
    return grant.file().read()


def test_a_coordinator_that_has_been_replaced_writes_no_more(tmp_path: Path) -> None:
    old, new = Sessions(tmp_path / "store"), Sessions(tmp_path / "store")
    of_old = granted(old, tmp_path / "old")
    of_old.save("ab", STATE, 1.0)
    of_new = granted(new, tmp_path / "new")
    assert saved(of_new) == saved(of_old)
    with pytest.raises(NotGranted):
        of_old.save("ab", STATE | {"late": 1}, 2.0)
    of_new.save("ab", STATE | {"next": 1}, 3.0)
    session = saved(of_old)
    assert session is not None
    assert "next" in session.state


def test_the_child_is_told_places_and_no_key(tmp_path: Path) -> None:
    key_file = age.new_key(tmp_path / "key")
    grant = granted(Sessions(tmp_path / "store", key_file), tmp_path / "run")
    grant.save("ab", STATE, 1.0)
    (note,) = (tmp_path / "run").iterdir()
    assert note.stat().st_mode & 0o777 == 0o600
    assert "AGE-SECRET-KEY" not in note.read_text()
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_used_is_told_and_granted_later(tmp_path: Path) -> None:
    (tmp_path / "volume").write_text("no folder yet")
    sessions = Sessions(tmp_path / "volume" / "sessions")
    with capture_logs() as logs:
        sessions.open(["ann"])
        grant = granted(sessions, tmp_path / "run")
        with pytest.raises(NotGranted, match="could not be written to when the child was started"):
            grant.save("ab", STATE, 1.0)
        sessions.tend()
    assert [line["event"] for line in logs] == ["session_dir_unusable"]
    assert sessions.warnings() == [
        "SESSION_DIR cannot be used: Not a directory; logins that change are lost when the coordinator ends."
    ]
    assert sessions.trouble_of("ann") == "Not a directory"
    with pytest.raises(ActionRefused, match="cannot take it \\(Not a directory\\)"):  # and no child is asked for
        ChildSaver(cast(Supervisor, None), sessions.trouble_of).save("ann", STATE)
    (tmp_path / "volume").unlink()
    sessions.tend()
    assert sessions.warnings() == []
    assert sessions.trouble_of("ann") is None
    later = read_grant(tmp_path / "run")
    assert later is not None
    later.save("ab", STATE, 1.0)
    assert saved(later)


def test_a_fence_that_is_not_ours_is_told_by_the_logins_name_and_the_others_go_on(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "store")
    sessions.open(["ann", "bob"])
    (tmp_path / "store/ann.fence").symlink_to("elsewhere")
    with capture_logs() as logs:
        assert granted(sessions, tmp_path / "ann").number is None
        assert granted(sessions, tmp_path / "bob", "bob").number == 1
        sessions.tend()
    assert [(line["event"], line["child"]) for line in logs] == [("session_not_granted", "ann")]
    loop = "Too many levels of symbolic links"
    assert sessions.warnings() == [f"The saved session of ann cannot be given to its child: {loop}."]
    assert not (tmp_path / "store/elsewhere").exists()
    (tmp_path / "store/ann.fence").unlink()
    sessions.tend()
    assert sessions.warnings() == []
    later = read_grant(tmp_path / "ann")
    assert later is not None
    assert later.number == 1


def test_a_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    sessions = Sessions(tmp_path / "store")
    sessions.open(["ann"])
    assert sessions.warnings()[0].startswith(f"SESSION_DIR cannot be used: it belongs to uid {os.getuid()}; chown it")
    assert list((tmp_path / "store").iterdir()) == []


def test_with_a_key_nothing_stays_in_plain(tmp_path: Path) -> None:
    store = tmp_path / "store"
    plain = Sessions(store)
    for name in ("ann", "left the fleet"):
        granted(plain, tmp_path / "run", name).save("ab", STATE, 1.0)
    draft, young = store / ".ann.session.abc", store / ".ann.session.def"
    for path in (draft, young):
        path.write_text("canary")
    os.utime(draft, (time.time() - 7200,) * 2)
    (store / "bad.session").write_text("damaged")
    keyed = Sessions(store, age.new_key(tmp_path / "key"))
    with capture_logs() as logs:
        keyed.open(["ann"])
    assert [(line["event"], line["login"]) for line in logs] == [("session_left_alone", "bad")]
    assert (store / "bad.session").read_text() == "damaged"
    assert [path.name for path in sorted(store.iterdir()) if b"canary" in path.read_bytes()] == [young.name]
    session = SessionFile(store, "left the fleet", keyed._key).read()
    assert session is not None
    assert session.state == STATE


def test_what_children_report_is_a_warning_by_name_until_it_is_over(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "store")
    trouble = SessionReport(failures=1, trouble="cannot be written: No space left on device")
    with capture_logs() as logs:
        for _ in range(2):
            sessions.fleet_event(SessionReported("ann", 1, trouble, 0, 1))
    assert [(line["event"], line["child"]) for line in logs] == [("session_trouble", "ann")]
    assert sessions.warnings() == ["The saved session of ann cannot be written: No space left on device."]
    assert sessions.oldest_save_at() is None
    sessions.fleet_event(SessionReported("ann", 1, SessionReport(1, 1, saved_at=5.0), 1, 0))
    sessions.fleet_event(SessionReported("bob", 1, SessionReport(1, 0, saved_at=4.0), 1, 0))
    assert (sessions.warnings(), sessions.oldest_save_at()) == ([], 4.0)
    sessions.forget("bob")
    assert sessions.oldest_save_at() == 5.0
    sessions.fleet_event(SessionReported("ann", 1, trouble, 0, 1))
    sessions.fleet_event(ChildCleaned("ann", 1, 0, 0.0))
    assert sessions.warnings() == []


def test_a_key_that_cannot_be_used_is_named_by_its_variable(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    with pytest.raises(SettingsError) as refused:
        Sessions(tmp_path / "store", tmp_path / "key")
    said = f"SESSION_KEY_FILE={tmp_path}/key (--session-key-file) line 1 is no age identity AGE-SECRET-KEY-1..."
    assert str(refused.value).startswith(said)
    assert "secret" not in str(refused.value)

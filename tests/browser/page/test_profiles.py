"""The profile that a child opens, by the coordinator's own rules, and the lock on its login."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from browser.errors import ProfileError, ProfileLocked
from browser.page import login
from browser.page.login import LoginPlan
from browser.page.login_watch import SessionKeeper
from browser.page.profile import as_chromium_loads_it, load_profile, save_session, state_to_open
from browser.page.profile_lock import ProfileLock
from browser.page.session_report import SessionLog
from browser.settings import BrowserSettings
from browser.site.load import load_site
from contract.child_api import SessionReport
from contract.processes import ProcessIdentity
from contract.sessions.errors import BadSession
from contract.sessions.grant import Grant, write_grant
from contract.sessions.store import SessionFile
from contract.storage_state.summary import ProfileSummary
from coordinator.profiles import discover_profiles
from demo.site import DemoSite
from tests.browser.conftest import Pages, demo_file
from tests.browser.profiles import cookie_state, write_profile
from tests.coordinator.profiles.support.corrupted import ALL, SOUND, Corrupted
from tests.coordinator.profiles.support.outcome import opening_fails
from tests.support.waiting import HANG_LIMIT_S

COOKIE = {"name": "s", "value": "1", "domain": "chat.example.com", "path": "/", "expires": 4e9}
STORED = {"origin": "https://chat.example.com", "localStorage": [{"name": "t", "value": "2"}]}
STATE: dict[str, Any] = {"cookies": [COOKIE], "origins": [STORED]}
NOW = 1_800_000_000.0
BY_HAND = [case for case in (*ALL, *SOUND) if "/" not in case.file_name and "\\" not in case.file_name]


def start(path: Path) -> str:
    """Load a profile as a child's start does; the reason against it, or nothing."""
    try:
        state_to_open(load_profile(path), path.parent, now=NOW)
    except ProfileError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("case", BY_HAND, ids=lambda case: case.cause)
def test_a_profile_is_judged_as_the_coordinator_does(case: Corrupted, tmp_path: Path) -> None:
    folder = tmp_path / "active"
    folder.mkdir()
    case.put(folder)
    with opening_fails(case):
        rejected = {item.name: item.reason for item in discover_profiles(folder, now=NOW).rejected}
        reason = start(folder / case.file_name)
    # What concerns names, the folder and other profiles is no concern of a child that is given one path.
    of_the_folder = ("has a name", "is a link that leads out", "is the same file", "holds the same login")
    if case.reason.startswith(of_the_folder):
        assert reason == ""
    else:
        assert reason == (f"profile {case.file_name} {case.reason}" if case.reason else "")
        assert case.reason == rejected.get(case.file_name, "")


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["cookies", "origins", "name", "url"]), inner),
    ).map(lambda document: json.dumps(document).encode())
)
def test_whatever_is_in_the_file_a_child_says_what_is_wrong(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)
    reason = start(path)
    assert reason == "" or reason.startswith("profile any.json ")


@given(
    st.dictionaries(
        st.sampled_from(["name", "value", "domain", "path", "url", "expires", "secure", "sameSite", "partitionKey"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_whatever_is_in_a_cookie_a_child_loads_it_or_says_what_is_wrong(
    tmp_path_factory: pytest.TempPathFactory, strange: dict[str, Any], now: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "cookie.json"
    path.write_text(json.dumps({"cookies": [COOKIE | strange]}))
    reason = "profile cookie.json "
    try:
        opened = as_chromium_loads_it(state_to_open(load_profile(path), path.parent, now=now))
        assert len(opened["cookies"]) == 1
    except ProfileError as error:
        reason = str(error)
    assert reason.startswith("profile cookie.json ")


@pytest.mark.parametrize("error", [ValueError("secret"), OverflowError("secret"), RecursionError("secret")])
def test_what_the_checks_did_not_foresee_is_the_profiles_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    path = write_profile(tmp_path / "ada.json", STATE)
    profile = load_profile(path)
    save_session(profile, STATE, tmp_path)

    def fail(*_: object) -> None:
        raise error

    reason = rf"cannot be checked \({type(error).__name__}\); log in again and save it$"
    monkeypatch.setattr(ProfileSummary, "check_alive", fail)
    with capture_logs() as logs, pytest.raises(ProfileError, match=rf"^profile ada\.json {reason}"):
        state_to_open(profile, tmp_path)
    assert [line["event"] for line in logs] == ["session_not_used"]
    monkeypatch.setattr(ProfileSummary, "of", fail)
    with pytest.raises(ProfileError, match=rf"^profile ada\.json {reason}"):
        load_profile(path)


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"^profile ada\.json does not exist$"):
        load_profile(tmp_path / "ada.json")


def test_a_saved_session_is_used_until_its_source_changes(tmp_path: Path) -> None:
    source = write_profile(tmp_path / "ada.json", STATE)
    newer = {"cookies": [COOKIE | {"value": "rotated"}], "origins": []}
    save_session(load_profile(source), newer, tmp_path)
    assert state_to_open(load_profile(source), tmp_path) == newer
    write_profile(source, STATE | {"origins": []})
    assert state_to_open(load_profile(source), tmp_path)["cookies"] == STATE["cookies"]


def test_a_saved_session_outlives_the_cookies_of_its_source(tmp_path: Path) -> None:
    profile = load_profile(write_profile(tmp_path / "ada.json", {"cookies": [COOKIE | {"expires": 5}]}))
    with pytest.raises(ProfileError, match=r"^profile ada\.json has only expired cookies, the last since 1970-01-01"):
        state_to_open(profile, tmp_path, now=NOW)
    save_session(profile, {"cookies": [COOKIE]}, tmp_path)
    assert state_to_open(profile, tmp_path, now=NOW) == {"cookies": [COOKIE]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty (0 bytes)"),
        ("[]", "is no saved session"),
        ("{}", "is no saved session"),
        ('{"source_sha256": null, "storage_state": null}', "has a field of the wrong kind"),
        ('{"source_sha256": null}', "is no saved session"),
        ('{"source_sha256": null, "storage_state": {}}', "has neither cookies nor origins: it is not a Playwright"),
        ('{"source_sha256": null, "storage_state": {"cookies": [{}]}}', "cookies[0] has no name"),
        ('{"source_sha256": null, "storage_state": {"cookies": [COOKIE]}}', "has only expired cookies, the last since"),
    ],
)
def test_a_saved_session_that_no_browser_would_load_is_not_used(tmp_path: Path, content: str, reason: str) -> None:
    profile = load_profile(write_profile(tmp_path / "ada.json", STATE))
    expired = json.dumps(COOKIE | {"expires": 5})
    (tmp_path / "session.json").write_text(content.replace("null", f'"{profile.sha256}"', 1).replace("COOKIE", expired))
    with capture_logs() as logs:
        assert state_to_open(profile, tmp_path) == STATE
    assert [line["event"] for line in logs] == ["session_not_used"]
    assert logs[0]["reason"].startswith(reason)


def given_a_store(tmp_path: Path, name: str = "ada") -> tuple[Path, SessionFile]:
    """Return a run folder whose start was granted the session of this login, and its files."""
    run_dir, store = tmp_path / "run", tmp_path / "store"
    run_dir.mkdir()
    store.mkdir()
    file = SessionFile(store, name)
    write_grant(run_dir, Grant(str(store), name, file.grant("a").number, "a"))
    return run_dir, file


def test_with_a_session_store_nothing_is_saved_in_the_run_folder(tmp_path: Path) -> None:
    run_dir, file = given_a_store(tmp_path)
    profile = load_profile(write_profile(tmp_path / "ada.json", STATE))
    newer = {"cookies": [COOKIE | {"value": "rotated"}], "origins": []}
    save_session(profile, newer, run_dir)
    assert [path.name for path in run_dir.iterdir()] == ["session_grant.json"]
    told = SessionLog()
    assert state_to_open(profile, run_dir, session_log=told) == newer
    assert told.report.saved_at is not None
    other = load_profile(write_profile(tmp_path / "ada.json", STATE | {"origins": []}))
    assert state_to_open(other, run_dir)["cookies"] == STATE["cookies"], "it is of another version of the profile"
    save_session(other, newer, run_dir)
    assert state_to_open(other, run_dir) == newer
    file.grant("b")
    with pytest.raises(BadSession, match="is not written: a newer start, or another coordinator, has been given"):
        save_session(other, STATE, run_dir)
    assert state_to_open(other, run_dir) == newer


async def test_a_file_that_is_not_ours_is_told_and_left_alone_until_it_is_gone(tmp_path: Path) -> None:
    run_dir, file = given_a_store(tmp_path)
    file.path.write_text("damaged")
    profile, told = load_profile(write_profile(tmp_path / "ada.json", STATE)), SessionLog()
    with capture_logs() as logs:
        state = state_to_open(profile, run_dir, session_log=told)
        assert state == STATE
        assert told.report == SessionReport(trouble="is not JSON: Expecting value (line 1, column 1); remove it")
        keeper = SessionKeeper(profile, state, run_dir, "https://chat.example.com", session_log=told)
        await keeper.save(cast("Any", FakeContext(stored("rotated"))))
        assert (told.report.saves, told.report.failures, file.path.read_text()) == (0, 1, "damaged")
        file.path.unlink()
        await keeper.save(cast("Any", FakeContext(stored("rotated"))))
    assert [line["event"] for line in logs] == ["session_not_used", "session_not_saved", "session_saved"]
    assert (told.report.saves, told.report.failures, told.report.trouble) == (1, 1, None)
    assert keeper.latest() == stored("rotated")


def test_a_store_that_cannot_be_written_or_opened_is_told(tmp_path: Path) -> None:
    run_dir, file = given_a_store(tmp_path)
    profile = load_profile(write_profile(tmp_path / "ada.json", STATE))
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(BadSession, match=r"^cannot be written: No such file or directory$"):
        save_session(profile, STATE, run_dir)
    (tmp_path / "away").rename(tmp_path / "store")
    write_grant(run_dir, Grant(str(tmp_path / "store"), "ada", None, "a"))
    with pytest.raises(BadSession, match="is not written: SESSION_DIR could not be written to when the child was"):
        save_session(profile, STATE, run_dir)
    write_grant(run_dir, Grant(str(tmp_path / "store"), "ada", 1, "a", str(tmp_path / "no-key")))
    with pytest.raises(BadSession, match=r"^cannot be opened: the file of SESSION_KEY_FILE cannot be read: No such"):
        save_session(profile, STATE, run_dir)
    (run_dir / "session_grant.json").write_text("{}")
    with pytest.raises(BadSession, match="note of it is damaged"):
        save_session(profile, STATE, run_dir)
    assert not file.path.exists()


async def test_a_login_is_used_once_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    first = await ProfileLock.acquire("a" * 64, "ada.json", folder=folder)
    other = await ProfileLock.acquire("b" * 64, "grace.json", folder=folder)
    with pytest.raises(ProfileLocked, match=r"^profile ada-copy\.json: its login is in use by another browser"):
        await ProfileLock.acquire("a" * 64, "ada-copy.json", folder=folder)
    first.release()
    first.release()
    (await ProfileLock.acquire("a" * 64, "ada.json", folder=folder)).release()
    other.release()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert list(folder.iterdir()) == []


async def test_a_lock_whose_file_its_owner_removes_meanwhile_is_taken_in_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two would hold the login otherwise: one in the file that is gone, one in the file of that name."""
    folder = tmp_path / "locks"
    first = await ProfileLock.acquire("a" * 64, "ada.json", folder=folder)
    flock, opened = fcntl.flock, []

    def lock_after_the_owner_let_go(descriptor: int, operation: int) -> None:
        opened.append(descriptor)
        first.release()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_the_owner_let_go)
    second = await ProfileLock.acquire("a" * 64, "ada.json", folder=folder)
    assert len(opened) == 2
    monkeypatch.undo()
    with pytest.raises(ProfileLocked):
        await ProfileLock.acquire("a" * 64, "ada.json", folder=folder)
    second.release()


async def test_a_browser_left_over_is_ended_first(tmp_path: Path) -> None:
    leftover = await asyncio.create_subprocess_exec("sleep", "100", start_new_session=True)
    started = ProcessIdentity.of(leftover.pid)
    assert started
    (tmp_path / "locks").mkdir(mode=0o700)
    (tmp_path / "locks" / ("a" * 64)).touch(mode=0o600)
    (tmp_path / "locks" / ("a" * 64)).write_text(json.dumps({"pgid": leftover.pid, "start_time": started.start_time}))
    lock = await ProfileLock.acquire("a" * 64, "ada.json", folder=tmp_path / "locks")
    assert await asyncio.wait_for(leftover.wait(), HANG_LIMIT_S) == -signal.SIGKILL
    lock.release()


async def test_a_process_that_only_has_the_same_id_is_left_alone(tmp_path: Path) -> None:
    own = ProcessIdentity.of(os.getpid())
    assert own
    lock = await ProfileLock.acquire("a" * 64, "ada.json", folder=tmp_path / "locks")
    lock.note_browser(ProcessIdentity(own.pid, own.start_time - 1), tmp_path)
    lock._close()  # as if killed: what was noted stays
    (await ProfileLock.acquire("a" * 64, "ada.json", folder=tmp_path / "locks")).release()


# Not by their own texts: the name of the test is in the environment, and so in that of the process.
@pytest.mark.parametrize("run_dir", [None, "/run/of-another", ""], ids=["older note", "another", "empty"])
async def test_a_group_whose_leader_is_gone_is_not_taken_for_the_browsers(tmp_path: Path, run_dir: str | None) -> None:
    """The number may have become another's, whose leader has ended as well: as after `sh -c 'work &'`."""
    starting = await asyncio.create_subprocess_exec(
        *("sh", "-c", "sleep 100 >/dev/null & echo $!"), stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    out, _ = await starting.communicate()
    stranger = ProcessIdentity.of(int(out))
    assert stranger
    noted = {"pgid": starting.pid, "start_time": 1, **({} if run_dir is None else {"run_dir": run_dir})}
    lock = await ProfileLock.acquire("a" * 64, "ada.json", folder=tmp_path / "locks")
    lock._write(json.dumps(noted))
    lock._close()
    (await ProfileLock.acquire("a" * 64, "ada.json", folder=tmp_path / "locks")).release()
    await asyncio.sleep(0.1)  # a signal would have arrived
    assert stranger.is_alive()
    stranger.kill()


@pytest.mark.parametrize("trap", ["link", "open"])
async def test_a_lock_folder_that_somebody_else_prepared_is_not_used(tmp_path: Path, trap: str) -> None:
    folder = tmp_path / "locks"
    if trap == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(ProfileLocked, match=r"lock folder .*; remove it or make it yours alone"):
        await ProfileLock.acquire("a" * 64, "ada.json", folder=folder)


async def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir(mode=0o700)
    (tmp_path / "precious").write_text("x")
    (tmp_path / "locks" / ("a" * 64)).symlink_to(tmp_path / "precious")
    with pytest.raises(ProfileLocked):
        await ProfileLock.acquire("a" * 64, "ada.json", folder=tmp_path / "locks")
    assert (tmp_path / "precious").read_text() == "x"


async def test_chromium_keeps_a_login_that_firefox_saved(shared_pages: Pages, demo: DemoSite) -> None:
    """Firefox says SameSite=None of a cookie whose site says nothing; without `secure` Chromium drops such a cookie."""
    state = cookie_state(demo)
    for one in state["cookies"]:
        one |= {"sameSite": "None", "secure": False}
    page = await shared_pages.open(demo_file(demo), state)
    assert page.status.ready


class FakeContext:
    """A browser's context that gives this as its storage_state."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state
        self.pages: list[Any] = []

    async def storage_state(self, **_: Any) -> dict[str, Any]:
        return self._state

    async def cookies(self) -> list[dict[str, Any]]:
        return [COOKIE]


def stored(value: str) -> dict[str, Any]:
    return STATE | {"origins": [STORED | {"localStorage": [{"name": "t", "value": value}]}]}


async def test_half_a_surrogate_pair_that_a_page_stored_does_not_keep_the_session_from_being_used(
    tmp_path: Path,
) -> None:
    profile = load_profile(write_profile(tmp_path / "ada.json", STATE))
    keeper = SessionKeeper(profile, STATE, tmp_path, "https://chat.example.com")
    await keeper.save(cast("Any", FakeContext(stored("whole 😀, half \ud83d"))))
    with capture_logs() as lines:
        assert state_to_open(profile, tmp_path) == stored("whole 😀, half \ufffd")
    assert lines == []


async def test_a_session_nested_too_deep_is_not_saved_and_ends_nothing(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    profile = load_profile(write_profile(tmp_path / "ada.json", STATE))
    keeper = SessionKeeper(profile, STATE, tmp_path, "https://chat.example.com")
    with capture_logs() as lines:
        await keeper.save(cast("Any", FakeContext(STATE | {"origins": [STORED | {"more": deep}]})))
    assert [line["error"] for line in lines] == ["RecursionError"]


async def test_half_a_surrogate_pair_that_a_page_stored_does_not_keep_a_login_from_being_saved(tmp_path: Path) -> None:
    plan = LoginPlan(load_site("demo"), tmp_path / "me.json", False, "chromium", BrowserSettings())
    page = SimpleNamespace(context=FakeContext(stored("whole 😀, half \ud83d")), state={})
    state = await login._state_of(cast("Any", page), plan.site)
    saved = login._save_login(state, {}, plan)
    assert (saved.cookies, saved.origins) == (1, 1)
    assert load_profile(plan.path).state == stored("whole 😀, half \ufffd")

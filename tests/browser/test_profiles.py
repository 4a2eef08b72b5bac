from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from browser.errors import ProfileError, ProfileLocked
from browser.page.profile import expires_at, load_profile, login_digest, save_session, state_to_open
from browser.page.profile_lock import ProfileLock
from contract.processes import ProcessIdentity
from tests.browser.profiles import write_profile

COOKIE = {"name": "s", "value": "1", "domain": "chat.example.com", "path": "/", "expires": 2e9}
STORED = {"origin": "https://chat.example.com", "localStorage": [{"name": "t", "value": "2"}]}
STATE: dict[str, Any] = {"cookies": [COOKIE], "origins": [STORED]}
URL = "https://chat.example.com/app"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a JSON file"),
        (b"\xff\xfe", "not a JSON file"),
        (b"[]", "not a Playwright storage_state"),
        (b"{}", "not a Playwright storage_state"),
        (b'{"cookies": {}}', "not a Playwright storage_state"),
        (b'{"cookies": [1]}', "not a Playwright storage_state"),
        (b'{"cookies": [], "origins": "x"}', "not a Playwright storage_state"),
    ],
)
def test_a_bad_profile_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "ada.json").write_bytes(content)
    with pytest.raises(ProfileError, match=f"^profile ada.json: {says}"):
        load_profile(tmp_path / "ada.json")


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"^profile ada\.json: cannot read it: No such file"):
        load_profile(tmp_path / "ada.json")


def test_the_same_login_has_the_same_digest_in_any_order() -> None:
    other = COOKIE | {"name": "other"}
    one = {"cookies": [COOKIE, other], "origins": [STORED]}
    two = {"origins": [STORED], "cookies": [other, dict(reversed(COOKIE.items())) | {"expires": 1}]}
    assert login_digest(one) == login_digest(two)
    assert login_digest(one) != login_digest(STATE)
    assert login_digest({"cookies": [COOKIE | {"value": "2"}]}) != login_digest({"cookies": [COOKIE]})
    assert login_digest({"cookies": [COOKIE]}) != login_digest(STATE)


def test_a_saved_session_is_used_until_its_source_changes(tmp_path: Path) -> None:
    source = write_profile(tmp_path / "ada.json", STATE)
    newer = {"cookies": [COOKIE | {"value": "rotated"}], "origins": []}
    save_session(load_profile(source), newer, tmp_path)
    assert state_to_open(load_profile(source), tmp_path) == newer
    write_profile(source, STATE | {"origins": []})
    assert state_to_open(load_profile(source), tmp_path)["cookies"] == STATE["cookies"]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"source_sha256": null, "storage_state": null}'])
def test_a_broken_saved_session_is_not_used(tmp_path: Path, content: str) -> None:
    profile = load_profile(write_profile(tmp_path / "ada.json", STATE))
    (tmp_path / "session.json").write_text(content.replace("null", f'"{profile.sha256}"', 1))
    assert state_to_open(profile, tmp_path) == STATE


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        ([], None),
        ([{"expires": -1}], None),
        ([{"expires": 50}, {"expires": 40}], 40),
        ([{"expires": 50, "httpOnly": True}, {"expires": 40}], 50),
        ([{"expires": 40, "domain": "other.example.com"}, {"expires": 50, "domain": ".example.com"}], 50),
        ([{"expires": 40, "domain": "example.com"}], None),
    ],
)
def test_when_a_login_ends(cookies: list[dict[str, Any]], expected: float | None) -> None:
    state = {"cookies": [{"domain": "chat.example.com"} | cookie for cookie in cookies]}
    assert expires_at(state, URL) == expected


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


async def test_a_browser_left_over_is_ended_first(tmp_path: Path) -> None:
    leftover = await asyncio.create_subprocess_exec("sleep", "100", start_new_session=True)
    started = ProcessIdentity.of(leftover.pid)
    assert started
    (tmp_path / "locks").mkdir(mode=0o700)
    (tmp_path / "locks" / ("a" * 64)).touch(mode=0o600)
    (tmp_path / "locks" / ("a" * 64)).write_text(json.dumps({"pgid": leftover.pid, "start_time": started.start_time}))
    lock = await ProfileLock.acquire("a" * 64, "ada.json", folder=tmp_path / "locks")
    assert await asyncio.wait_for(leftover.wait(), 5) == -signal.SIGKILL
    lock.release()


async def test_a_process_that_only_has_the_same_id_is_left_alone(tmp_path: Path) -> None:
    own = ProcessIdentity.of(os.getpid())
    assert own
    lock = await ProfileLock.acquire("a" * 64, "ada.json", folder=tmp_path / "locks")
    lock.note_browser(ProcessIdentity(own.pid, own.start_time - 1))
    lock._close()  # as if killed: what was noted stays
    (await ProfileLock.acquire("a" * 64, "ada.json", folder=tmp_path / "locks")).release()


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

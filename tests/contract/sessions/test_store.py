"""One login's session and its fence: whose writes count, what is left alone, and what a crash leaves."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyrage  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from contract.sessions.errors import BadSession, NotGranted
from contract.sessions.key import SessionKey
from contract.sessions.record import MAX_FILE_BYTES, VERSION, SavedSession, Token
from contract.sessions.store import SessionFile, file_stem, name_of
from tests.support.size import size

ROOT = Path(__file__).resolve().parents[3]
KEY = SessionKey((pyrage.x25519.Identity.generate(),))
OTHER_KEY = SessionKey((pyrage.x25519.Identity.generate(),))
STATE = {"cookies": [{"name": "sid", "value": "canary-cookie-52ab"}], "origins": []}


NO_TOKEN = Token()


def session(token: Token = NO_TOKEN, value: object = "first", login: str = "ann") -> SavedSession:
    state: dict[str, Any] = STATE | {"value": value}
    return SavedSession(login, "ab" * 32, state, token, saved_at=1.75e9)


def saved(file: SessionFile) -> object:
    found = file.read()
    return found and found.state["value"]


# Whose writes count


class Fence(RuleBasedStateMachine):
    """Starts are granted the session, and write it, in any order; the fence may get lost or damaged meanwhile."""

    starts = Bundle("starts")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(os.environ["FENCE_FOLDER"]) / os.urandom(8).hex()
        self.folder.mkdir()
        self.file = SessionFile(self.folder, "ann")
        self.newest: Token | None = None
        self.value: object = None
        self.written = 0
        self.granted: set[Token] = set()

    @rule(target=starts, holder=st.sampled_from(["a", "b"]))
    def grant(self, holder: str) -> Token:
        token = self.file.grant(holder)
        assert token not in self.granted, "two starts of one coordinator have one token"
        self.newest = token
        self.granted.add(token)
        return token

    @rule(token=starts)
    def write(self, token: Token) -> None:
        value = os.urandom(4).hex()
        try:
            self.file.write(session(token, value))
        except NotGranted:
            assert token != self.newest or self.newest is None
        else:
            assert token == self.newest
            assert token.number >= self.written
            self.value, self.written = value, token.number

    @rule()
    def lose_the_fence(self) -> None:
        """As when only the sessions are copied to another machine: nobody may write until the next grant."""
        self.file.fence.unlink(missing_ok=True)
        self.newest = None
        # A number that nobody has written with may come again, but only where the fence that knew it is gone.
        self.granted = {token for token in self.granted if token.number <= self.written}

    @rule(content=st.binary(max_size=70))
    def damage_the_fence(self, content: bytes) -> None:
        if self.file.fence.exists() and not content[:1].isdigit():
            self.file.fence.write_bytes(content)
            self.newest = None
            self.granted = {token for token in self.granted if token.number <= self.written}

    @invariant()
    def the_last_write_that_was_taken_is_there(self) -> None:
        assert saved(self.file) == self.value


def test_only_the_newest_start_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FENCE_FOLDER", str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # for a busy disk takes long, and nothing crashes here
    run_state_machine_as_test(Fence, settings=settings(max_examples=size(25, 200), stateful_step_count=25))


def test_another_coordinator_with_the_same_number_is_another_start(tmp_path: Path) -> None:
    file = SessionFile(tmp_path, "ann")
    ours = file.grant("a")
    file.fence.unlink()
    theirs = file.grant("b")
    assert theirs.number == ours.number
    with pytest.raises(NotGranted, match="another coordinator"):
        file.write(session(ours))
    file.write(session(theirs))


def test_a_lock_that_is_held_is_waited_for_and_then_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contract.sessions.store.LOCK_TIMEOUT_S", 0.05)
    file = SessionFile(tmp_path, "ann")
    token = file.grant("a")
    with file._locked(), pytest.raises(TimeoutError, match="holds the lock for too long"):
        file.write(session(token))
    file.write(session(token))


WRITER = """
import sys
from pathlib import Path
from contract.sessions.record import SavedSession
from contract.sessions.store import SessionFile
from contract.sessions.key import SessionKey
key = SessionKey.from_file(Path(sys.argv[2]))
file = SessionFile(Path(sys.argv[1]), "ann", key)
token = file.grant(sys.argv[3])
print("ready", flush=True)
for number in range(10**9):
    file.write(SavedSession("ann", "ab", {"value": number, "ballast": "x" * 200_000}, token, 1.0))
"""


def test_a_writer_that_is_killed_leaves_the_old_session_or_the_new_one(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(str(KEY.identities[0]))
    (tmp_path / "store").mkdir()
    file = SessionFile(tmp_path / "store", "ann", KEY)
    command = [sys.executable, "-c", WRITER, str(file.folder), str(key_file), "a"]
    for kills in range(1, size(3, 15) + 1):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            while (found := file.read()) is None or found.token.number != kills:
                pass
            writer.send_signal(signal.SIGKILL)
        after = file.read()
        assert after is not None
        assert after.token.number == kills
        assert len(after.state["ballast"]) == 200_000
    # What a draft of a killed writer holds is encrypted as well.
    assert not any(b"xxxx" in path.read_bytes() for path in file.folder.iterdir())


# What is left alone


def put(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def document(**changed: object) -> bytes:
    return json.dumps(json.loads(session().to_bytes(None)) | changed).encode()


LEFT_ALONE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (put(b""), "is empty (0 bytes); remove it"),
    "garbage": (put(b"\x80\x81"), "is not UTF-8 text (byte 0)"),
    "other-json": (put(b'{"cookies": [], "origins": []}'), "is no saved session; remove it"),
    "other-format": (put(document(format="x")), "is no saved session; remove it"),
    "other-login": (put(session(login="bob").to_bytes(KEY)), "is that of another login; remove it"),
    "other-key": (put(session().to_bytes(OTHER_KEY)), "is encrypted for another key; add that one to the file of"),
    "newer": (put(document(version=VERSION + 1)), f"has format {VERSION + 1}, this version of Tabfleet knows up to"),
    "newer-other-fields": (put(b'{"format": "tabfleet-session", "version": 9}'), "has format 9, this version"),
    "wrong-kind": (put(document(token="1")), "has a field of the wrong kind; remove it"),
    "endless": (put(document(saved_at=10**400)), "has a field of the wrong kind; remove it"),
    "too-large": (put(b"{" + b" " * MAX_FILE_BYTES), f"is larger than the {MAX_FILE_BYTES} bytes a saved session"),
    "link": (lambda path: path.symlink_to("elsewhere"), "is a link; remove it"),
    "folder": (lambda path: path.mkdir(), "is not a regular file; remove it"),
    "pipe": (os.mkfifo, "is not a regular file; remove it"),
}


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_a_file_that_is_not_ours_is_named_and_left_alone(tmp_path: Path, kind: str) -> None:
    make, reason = LEFT_ALONE[kind]
    file = SessionFile(tmp_path, "ann", KEY)
    make(file.path)
    before = file.path.lstat()
    token = file.grant("a")
    with pytest.raises(BadSession) as read:
        file.read()
    with pytest.raises(BadSession) as written:
        file.write(session(token))
    assert read.value.reason.startswith(reason)
    assert written.value.reason == read.value.reason
    assert str(tmp_path) not in read.value.reason
    after = file.path.lstat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)


def test_a_file_of_another_user_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SessionFile(tmp_path, "ann", KEY)
    token = file.grant("a")
    file.write(session(token))
    mine, other = os.geteuid(), os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(PermissionError, match=f"its fence belongs to uid {mine}; chown it to {other}"):
        file.write(session(token, "second"))
    with pytest.raises(BadSession, match=rf"^belongs to uid {mine}; chown it to {other}, or remove it$"):
        file.read()


def test_once_the_file_is_removed_the_session_is_saved(tmp_path: Path) -> None:
    file = SessionFile(tmp_path, "ann", KEY)
    file.path.write_bytes(b"damaged")
    token = file.grant("a")
    file.path.unlink()
    file.write(session(token))
    assert saved(file) == "first"


ENCRYPTED = session().to_bytes(KEY)


@given(st.integers(0, len(ENCRYPTED) - 1), st.integers(0, 7))
def test_each_cut_and_each_flipped_bit_is_seen(at: int, bit: int) -> None:
    with pytest.raises(BadSession):
        SavedSession.from_bytes(ENCRYPTED[:at], KEY)
    flipped = bytearray(ENCRYPTED)
    flipped[at] ^= 1 << bit
    with pytest.raises(BadSession):
        SavedSession.from_bytes(bytes(flipped), KEY)


# Privacy, formats and names


def test_a_file_is_private_and_holds_nothing_in_plain(tmp_path: Path) -> None:
    file = SessionFile(tmp_path, "ann", KEY)
    file.write(session(file.grant("a")))
    # As an orchestrator does, which gives the files of a volume to a group.
    file.path.chmod(0o660)
    assert saved(file) == "first"
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert b"canary" not in path.read_bytes()
    assert "canary" not in repr(file.read())
    assert repr(KEY) == "SessionKey()"


def test_a_session_in_plain_is_read_and_encrypted_where_there_is_a_key(tmp_path: Path) -> None:
    plain = SessionFile(tmp_path, "ann")
    plain.write(session(plain.grant("a")))
    assert b"canary" in plain.path.read_bytes()
    keyed = replace(plain, key=KEY)
    keyed.encrypt()
    assert keyed.read() == session(Token(1, "a"))
    assert b"canary" not in plain.path.read_bytes()
    encrypted = plain.path.read_bytes()
    keyed.encrypt()
    assert plain.path.read_bytes() == encrypted
    with pytest.raises(BadSession, match=r"^is encrypted; set SESSION_KEY_FILE$"):
        plain.read()


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_the_older_format_is_read_and_replaced(tmp_path: Path, key: SessionKey | None) -> None:
    file = SessionFile(tmp_path, "ann", key)
    older = json.dumps({"source_sha256": "ab", "storage_state": STATE}).encode()
    file.path.write_bytes(key.encrypt(older) if key else older)
    assert file.read() == SavedSession("", "ab", STATE)
    file.write(session(file.grant("a")))
    assert saved(file) == "first"


def test_a_key_is_changed_by_putting_a_new_one_in_front(tmp_path: Path) -> None:
    file = SessionFile(tmp_path, "ann", KEY)
    file.write(session(file.grant("a")))
    both = replace(file, key=SessionKey(OTHER_KEY.identities + KEY.identities))
    assert saved(both) == "first"
    both.encrypt()
    only_new = replace(file, key=OTHER_KEY)
    assert saved(only_new) == "first"
    both.write(session(file.grant("a"), "second"))
    assert saved(only_new) == "second"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_name_has_a_file_of_its_own(name: str) -> None:
    stem = file_stem(name)
    assert "/" not in stem
    assert not stem.startswith(".")
    assert len(f".{stem}.session.12345678".encode()) <= 255
    assert name_of(stem) in (name, None)
    assert name_of(stem) == name or len(name) > 20


def test_a_session_of_elsewhere_is_taken_if_it_is_newer(tmp_path: Path) -> None:
    file = SessionFile(tmp_path, "ann", KEY)

    def adopt(number: int, value: str) -> bool:
        theirs = session(Token(number, "b"), value)
        return file.adopt(theirs.to_bytes(KEY), theirs)

    assert adopt(3, "missing here")
    assert saved(file) == "missing here"
    assert not adopt(3, "the same")
    ours = file.grant("a")
    assert ours.number == 4
    file.write(session(ours, "ours"))
    assert not adopt(3, "older")
    assert saved(file) == "ours"
    assert adopt(5, "newer")
    with pytest.raises(NotGranted):
        file.write(session(ours, "late"))
    assert saved(file) == "newer"


# A volume in trouble

TROUBLE = """
import errno, json, os, subprocess, sys
from pathlib import Path
from contract.sessions.record import SavedSession
from contract.sessions.store import SessionFile
folder = Path(sys.argv[1])
file = SessionFile(folder, "ann")
def attempt(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
def save(value):
    return attempt(lambda: file.write(SavedSession("ann", "ab", {"value": value, "ballast": "x" * 9000}, token, 1.0)))
token = file.grant("a")
told = {"first": save(1)}
with (folder / "ballast").open("wb", buffering=0) as ballast:
    try:
        while True:
            ballast.write(bytes(4096))
    except OSError:
        pass
told["full"] = save(2), file.read().state["value"]
token = file.grant("a")  # for it takes no more room
(folder / "ballast").unlink()
told["room again"] = save(3), file.read().state["value"]
subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
told["read-only"] = save(4), attempt(lambda: file.grant("a")), file.read().state["value"]
told["left"] = sorted(path.name for path in folder.iterdir())
print(json.dumps(told))
"""


def test_a_volume_that_is_full_or_read_only_keeps_the_old_session_whole(tmp_path: Path) -> None:
    own = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    mount = 'mount -t tmpfs -o size=64k,mode=0700 tmpfs "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", *own, "--mount", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, TROUBLE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "first": "done",
        "full": [errno.errorcode[errno.ENOSPC], 1],
        "room again": ["done", 3],
        "read-only": [errno.errorcode[errno.EROFS], errno.errorcode[errno.EROFS], 3],
        "left": ["ann.fence", "ann.session"],
    }

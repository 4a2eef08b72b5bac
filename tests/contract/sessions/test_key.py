"""The key of the session store: the real age reads what we write, and we read what it writes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from contract.sessions.errors import BadSession, SessionKeyError
from contract.sessions.key import SessionKey
from contract.sessions.record import SavedSession, Token
from contract.sessions.store import SessionFile
from tests.support import age

SESSION = SavedSession("ann", "ab", {"cookies": [], "value": "\u00e4"}, Token(1, "a"), 1.5)


def test_age_reads_what_we_write(tmp_path: Path) -> None:
    key_file = age.new_key(tmp_path / "key")
    file = SessionFile(tmp_path, "ann", SessionKey.from_file(key_file))
    file.grant("a")
    file.write(SESSION)
    assert json.loads(age.decrypt(key_file, file.path)) == json.loads(SESSION.to_bytes(None))


@pytest.mark.parametrize("armor", [False, True], ids=["binary", "armored"])
def test_we_read_what_age_writes(tmp_path: Path, armor: bool) -> None:
    key_file = age.new_key(tmp_path / "key")
    written = age.encrypt(key_file, SESSION.to_bytes(None), armor=armor)
    assert SavedSession.from_bytes(written, SessionKey.from_file(key_file)) == SESSION
    other = SessionKey.from_file(age.new_key(tmp_path / "other"))
    with pytest.raises(BadSession, match="encrypted for another key"):
        SavedSession.from_bytes(written, other)


GOOD = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
WRONG = {
    "": "holds no age identity; make one with age-keygen",
    "# only a comment\n": "holds no age identity; make one with age-keygen",
    "age1recipient\n": "line 1 is no age identity AGE-SECRET-KEY-1...; make one with age-keygen",
    "# c\n\nAGE-SECRET-KEY-PQ-1ABC\n": "line 3 is no age identity AGE-SECRET-KEY-1...; make one with age-keygen",
    f"{GOOD}\n{GOOD[:-1]}Q\n": "line 2 is a damaged age identity; copy the file again",
    "\x00\x01": "line 1 is no age identity AGE-SECRET-KEY-1...; make one with age-keygen",
    "#" * 70_000: "is larger than the 65536 bytes a file of age identities may have",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_file_that_is_no_key_is_explained_without_its_content(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(SessionKeyError) as wrong:
        SessionKey.from_file(path)
    assert str(wrong.value) == WRONG[text]


def test_a_key_file_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {"missing": "cannot be read: No such file", "pipe": "is not a regular file"}.items():
        with pytest.raises(SessionKeyError, match=f"^{reason}"):
            SessionKey.from_file(tmp_path / name)


def test_a_key_file_as_editors_on_windows_leave_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbf# public key: age1...\r\n" + GOOD.encode() + b"\r\n")
    key = SessionKey.from_file(tmp_path / "key")
    assert key.decrypt(key.encrypt(b"data")) == b"data"


def test_fingerprints_tell_keys_apart_and_are_no_secret(tmp_path: Path) -> None:
    one, two = (age.new_key(tmp_path / name) for name in ("one", "two"))
    both = (tmp_path / "one").read_text() + (tmp_path / "two").read_text()
    found = SessionKey.from_text(both).fingerprints
    assert found == (SessionKey.from_file(one).fingerprints + SessionKey.from_file(two).fingerprints)
    assert len(set(found)) == 2
    assert not any(fingerprint in both for fingerprint in found)

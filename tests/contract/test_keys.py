"""API keys: what a key file may hold, and what a request may present."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from contract.api_error import ApiError
from contract.keys import MAX_KEY_FILE_BYTES, FollowedKeys, KeyFileError, KeyStore, Role, check_key, presented_key


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_plain_and_hashed_keys_are_accepted_and_comments_are_not(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"hashed-key").hexdigest()
    keys = KeyStore.from_file(
        write(tmp_path / "key.txt", f"\ufeff# staff\r\nplain-key\r\n\r\n  sha256:{digest.upper()}\n".encode())
    )
    assert len(keys) == 2
    assert keys.verify("plain-key")
    assert keys.verify("hashed-key")
    assert not keys.verify(f"sha256:{digest}")
    assert not keys.verify("# staff")
    assert not keys.verify("")


def test_a_key_has_the_role_that_stands_after_it_or_may_only_call(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"hashed-key").hexdigest()
    lines = ("plain", "caller role=call", "watcher \t role=view", f"sha256:{digest}  role=operate", "plain")
    keys = KeyStore.from_file(write(tmp_path / "key.txt", "\r\n".join(lines).encode()))
    assert len(keys) == 4
    roles = {key: keys.role_of(key) for key in ("plain", "caller", "watcher", "hashed-key", lines[1], "nobody", "")}
    assert list(roles.values()) == [Role.CALL, Role.CALL, Role.VIEW, Role.OPERATE, None, None, None]


def test_each_role_includes_those_before_it(tmp_path: Path) -> None:
    included = {role: [other for other in Role if role.includes(other)] for role in Role}
    assert included == {
        Role.CALL: [Role.CALL],
        Role.VIEW: [Role.CALL, Role.VIEW],
        Role.OPERATE: [Role.CALL, Role.VIEW, Role.OPERATE],
    }
    keys = KeyStore.from_file(write(tmp_path / "key.txt", b"one\ntwo role=view\n"))
    assert [keys.has(role) for role in Role] == [True, True, False]
    assert not KeyStore().has(Role.CALL)


def test_a_file_without_keys_is_valid_and_asks_for_none(tmp_path: Path) -> None:
    assert not KeyStore.from_file(write(tmp_path / "key.txt", b"# none yet\n\n"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"ok\nsha256:1234\n", "line 2: sha256: takes exactly 64 hex digits"),
        (b"two words\n", "line 1: a key has no spaces"),
        (b"two words role=view\n", "line 1: a key has no spaces .* only its role may follow it"),
        (b"two words\trole=view\n", "line 1: a key has no spaces"),
        (b"two role=words\n", "line 1: there is no such role; a key has one of role=call, role=view, role=operate"),
        (b"two role=view words\n", "line 1: a key has no spaces"),
        (b"role=operate\n", "line 1: there is no key before the role"),
        (b"two\n\ntwo role=view\n", "line 3: this key stands further up with another role"),
        (b"nul\x00key\n", "line 1: a key has no spaces or control characters"),
        (b"\xff\xfek\x00e\x00y\x00", "is not UTF-8"),
        (b"x" * (MAX_KEY_FILE_BYTES + 1), "is larger than"),
    ],
)
def test_a_malformed_file_is_named_with_its_line_and_without_its_keys(
    tmp_path: Path, content: bytes, says: str
) -> None:
    with pytest.raises(KeyFileError, match=says) as caught:
        KeyStore.from_file(write(tmp_path / "key.txt", content))
    assert "two" not in str(caught.value).replace("of the two", "")
    assert "words" not in str(caught.value)


def test_a_missing_file_or_a_folder_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.txt", tmp_path):
        with pytest.raises(KeyFileError, match="missing or not a file"):
            KeyStore.from_file(path)


def replace(path: Path, content: bytes) -> None:
    write(path.with_suffix(".new"), content).replace(path)


def test_a_file_of_digests_accepts_the_same_keys_and_does_not_hold_them_or_their_roles(tmp_path: Path) -> None:
    keys = KeyStore.from_file(write(tmp_path / "key.txt", b"one-key\nother-key role=operate\n"))
    text = keys.to_text()
    assert "key" not in text
    again = KeyStore.from_file(write(tmp_path / "digests", text.encode()))
    assert (len(again), again.verify("one-key"), again.verify("other-key")) == (2, True, True)
    assert (keys.has(Role.OPERATE), again.has(Role.VIEW)) == (True, False)
    assert again.to_text() == text
    assert KeyStore().to_text() == ""


def test_a_replaced_file_counts_from_then_on(tmp_path: Path) -> None:
    followed = FollowedKeys(write(tmp_path / "key.txt", b""))
    assert not followed.current()
    replace(tmp_path / "key.txt", b"first\n")
    assert followed.current().verify("first")
    replace(tmp_path / "key.txt", b"second\n")
    assert followed.current().verify("second")
    assert not followed.current().verify("first")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"two words\n", "line 1: a key has no spaces"), (b"# none\n", "no keys any more"), (None, "is missing")],
)
def test_a_file_that_went_bad_leaves_the_keys_in_force_and_the_log_says_why_once(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    path = write(tmp_path / "key.txt", b"first\n")
    followed = FollowedKeys(path)
    if content is None:
        path.unlink()
    else:
        replace(path, content)
    with capture_logs() as logs:
        assert [followed.current().verify(key) for key in ("first", "first", "other")] == [True, True, False]
    (line,) = logs
    assert (line["event"], says in line["reason"]) == ("keys_kept", True)
    assert "two words" not in str(line)
    replace(path, b"third\n")
    assert followed.current().verify("third")


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "key"),
    [
        ("Bearer k1", None, "k1"),
        ("bearer  k1 ", "k2", "k1"),
        ("Basic abc", "k2", "k2"),
        (None, " k2 ", "k2"),
        ("Bearer ", "", None),
        (None, None, None),
    ],
)
def test_the_key_of_a_request(authorization: str | None, x_api_key: str | None, key: str | None) -> None:
    assert presented_key(authorization, x_api_key) == key


@pytest.mark.parametrize(
    ("file", "key", "needed", "status"),
    [
        (b"", None, None, None),
        (b"", "any", None, None),
        (b"", "any", Role.VIEW, 403),
        (b"a", None, None, 401),
        (b"a", None, Role.VIEW, 401),
        (b"a", "b", None, 401),
        (b"a", "a", None, None),
        (b"a", "a", Role.VIEW, 403),
        (b"a role=operate", "a", Role.VIEW, None),
        (b"a role=view", "a", Role.OPERATE, 403),
    ],
)
def test_what_a_key_may_do(
    tmp_path: Path, file: bytes, key: str | None, needed: Role | None, status: int | None
) -> None:
    keys = KeyStore.from_file(write(tmp_path / "key.txt", file))
    if status is None:
        check_key(keys, key, needed)
        return
    with pytest.raises(ApiError) as refused:
        check_key(keys, key, needed)
    assert refused.value.status == status
    assert (refused.value.headers == {"www-authenticate": "Bearer"}) is (status == 401)


def test_only_newlines_end_a_line_of_a_key_file(tmp_path: Path) -> None:
    for separator in ("\f", "\v", "\x1c", "\x85", "\u2028", "\u2029"):
        with pytest.raises(KeyFileError, match="line 2: a key has no spaces or control characters"):
            KeyStore.from_file(write(tmp_path / "key.txt", f"ok\r\none{separator}two\n".encode()))


def test_a_digest_may_be_named_in_capitals(tmp_path: Path) -> None:
    line = f"SHA256:{hashlib.sha256(b'hashed-key').hexdigest()}"
    keys = KeyStore.from_file(write(tmp_path / "key.txt", line.encode()))
    assert keys.verify("hashed-key")
    assert not keys.verify(line)


def test_a_key_that_is_not_ascii_matches_as_servers_hand_it_over(tmp_path: Path) -> None:
    keys = KeyStore.from_file(write(tmp_path / "key.txt", "schl\u00fcssel-\u4f60\n".encode()))
    assert keys.verify("schl\u00fcssel-\u4f60".encode().decode("latin-1"))
    assert not keys.verify("schl?ssel-?")

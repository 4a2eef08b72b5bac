"""Copies of sessions in a real S3 bucket: fetched where newer, uploaded where changed, never over a newer one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest

from contract.sessions.key import SessionKey
from contract.sessions.record import SavedSession, Token
from contract.sessions.store import SessionFile
from coordinator.profiles import S3Location, S3Options
from coordinator.profiles.errors import ObjectChanged, S3Refused, S3Unreachable
from coordinator.profiles.s3_client import S3Client
from coordinator.profiles.s3_types import Fetched
from coordinator.sessions.mirror import Mirror
from tests.coordinator.profiles.support.bucket import Bucket
from tests.support.s3 import BUCKET

KEY = SessionKey((pyrage.x25519.Identity.generate(),))


@pytest.fixture
def writable(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in bucket.server.credentials("keepssessions").items():
        monkeypatch.setenv(name, value)
    return bucket


def client(bucket: Bucket) -> S3Client:
    return S3Client(S3Location(BUCKET, f"{bucket.prefix}/sessions"), S3Options())


def mirror(bucket: Bucket) -> Mirror:
    return Mirror(lambda: client(bucket), f"{bucket.prefix}/sessions")


def machine(tmp_path: Path, name: str) -> SessionFile:
    """Return ann's session on a machine with a volume of its own."""
    (tmp_path / name).mkdir()
    return SessionFile(tmp_path / name, "ann", KEY)


def save(file: SessionFile, token: Token, value: str, at: float = 1.0) -> None:
    file.write(SavedSession("ann", "ab", {"value": value}, token, at))


def saved(file: SessionFile) -> object:
    found = file.read()
    return found and found.state["value"]


def test_another_machine_goes_on_where_the_first_ended(writable: Bucket, tmp_path: Path) -> None:
    first, second = machine(tmp_path, "first"), machine(tmp_path, "second")
    here, there = mirror(writable), mirror(writable)
    here.fetch([first])
    save(first, first.grant("a"), "rotated")
    here.upload([first])
    here.upload([first])
    assert (here.uploads, here.failures, here.warnings()) == (1, 0, [])
    there.fetch([second])
    assert second.path.read_bytes() == first.path.read_bytes()
    newer = second.grant("b")
    assert newer == Token(2, "b")
    save(second, newer, "rotated again")
    there.upload([second])
    # The first, which is still running, has saved something too.
    save(first, Token(1, "a"), "late")
    here.upload([first])
    assert here.failures == 1
    newer_there = "has a newer version in the bucket, of another coordinator, which is taken at the next start"
    assert here.warnings() == [f"The saved session of ann {newer_there}."]
    here.fetch([first])
    assert saved(first) == "rotated again"
    assert here.warnings() == []


def test_of_two_with_one_number_the_first_stays(writable: Bucket, tmp_path: Path) -> None:
    files = [machine(tmp_path, name) for name in "ab"]
    mirrors = [mirror(writable) for _ in files]
    for one, file, holder in zip(mirrors, files, "ab", strict=True):
        save(file, file.grant(holder), holder)
        one.upload([file])
    assert mirrors[0].warnings() == []
    assert "another version in the bucket, of another coordinator; restart" in mirrors[1].warnings()[0]
    third = machine(tmp_path, "third")
    mirror(writable).fetch([third])
    assert saved(third) == "a"


@pytest.mark.parametrize("writer", ["obstore", "boto3"])
def test_a_write_lands_only_on_what_it_replaces(writable: Bucket, writer: str) -> None:
    one = client(writable)
    if writer == "boto3":
        one._store = None
    key = f"{writable.prefix}/sessions/ann.session"
    first = one.write(key, b"first", replaces=None)
    assert one.read(key) == Fetched(b"first", first)
    with pytest.raises(ObjectChanged):
        one.write(key, b"other", replaces=None)
    second = one.write(key, b"second", replaces=first)
    with pytest.raises(ObjectChanged):
        one.write(key, b"other", replaces=first)
    assert one.read(key) == Fetched(b"second", second)


def test_only_the_sessions_prefix_is_written(writable: Bucket) -> None:
    with pytest.raises(S3Refused, match=r"cannot be written: .* allow s3:PutObject on it"):
        client(writable).write(f"{writable.prefix}/active/ann.json", b"{}", replaces=None)


def test_without_the_permission_it_is_told_and_the_session_stays_here(bucket: Bucket, tmp_path: Path) -> None:
    file, one = machine(tmp_path, "here"), mirror(bucket)
    save(file, file.grant("a"), "kept")
    one.upload([file])
    (line,) = one.warnings()
    assert line.startswith(
        f"The saved session of ann is not uploaded: s3://{BUCKET}/{bucket.prefix}/sessions/ann.session"
    )
    assert "allow s3:PutObject" in line
    assert saved(file) == "kept"


DAMAGE: dict[str, tuple[bytes, str]] = {
    "garbage": (b"garbage", "in the bucket is not JSON"),
    "of another key": (
        SessionKey((pyrage.x25519.Identity.generate(),)).encrypt(b"{}"),
        "in the bucket is encrypted for",
    ),
    "cut": (KEY.encrypt(b"{}")[:-1], "in the bucket is a damaged age file"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_an_object_that_is_not_ours_is_named_and_left_alone(writable: Bucket, tmp_path: Path, kind: str) -> None:
    content, says = DAMAGE[kind]
    writable.put_as({"sessions/ann.session": content})
    file, one = machine(tmp_path, "here"), mirror(writable)
    one.fetch([file])
    assert says in one.warnings()[0]
    assert file.read() is None
    save(file, file.grant("a"), "ours")
    one.upload([file])
    assert says in one.warnings()[0]
    assert client(writable).read(f"{writable.prefix}/sessions/ann.session").data == content


class Away:
    """A bucket that does not answer, until it is back: no real one fails at will."""

    def __init__(self) -> None:
        self.asked = 0
        self.objects: dict[str, bytes] | None = None

    def read(self, _key: str) -> Fetched:
        self.asked += 1
        raise S3Unreachable("it does not answer")

    def write(self, key: str, data: bytes, *, replaces: str | None) -> str:
        raise AssertionError(f"{key}, {len(data)}, {replaces}: written without a look at what is there")


def test_a_bucket_that_is_away_is_asked_ever_more_rarely(tmp_path: Path) -> None:
    now, bucket, file = 0.0, Away(), machine(tmp_path, "here")
    clock: Callable[[], float] = lambda: now  # noqa: E731 - it follows `now`
    one = Mirror(lambda: bucket, "sessions", clock)
    save(file, file.grant("a"), "kept")
    asked_at = []
    for now in range(0, 3600, 5):
        before = bucket.asked
        one.upload([file])
        if bucket.asked > before:
            asked_at.append(now)
    gaps = [later - earlier for earlier, later in pairwise(asked_at)]
    assert gaps[:4] == [5, 10, 20, 40]
    assert max(gaps) == gaps[-1] == 300
    assert one.failures == len(asked_at)
    one.upload([file], at_once=True)
    assert bucket.asked == len(asked_at) + 1
    assert one.warnings() == ["The saved session of ann is not uploaded: it does not answer."]

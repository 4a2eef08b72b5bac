"""Copies of sessions in a real S3 bucket: fetched where newer, uploaded where changed, never over a newer one."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from contract.sessions.key import SessionKey
from contract.sessions.record import SavedSession, Token
from contract.sessions.store import SessionFile
from coordinator.profiles import S3Location, S3Options
from coordinator.profiles.errors import ObjectChanged, ObjectGone, S3Refused, S3Unreachable
from coordinator.profiles.s3_client import S3Client
from coordinator.profiles.s3_types import Fetched
from coordinator.sessions.mirror import Mirror, S3Sessions
from tests.coordinator.profiles.support.bucket import Bucket
from tests.support.s3 import BUCKET
from tests.support.size import size

KEY = SessionKey((pyrage.x25519.Identity.generate(),))


@pytest.fixture
def writable(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in bucket.server.credentials("keepssessions").items():
        monkeypatch.setenv(name, value)
    return bucket


def client(bucket: Bucket) -> S3Client:
    return S3Client(S3Location(BUCKET, f"{bucket.prefix}/sessions"), S3Options())


def mirror(bucket: Bucket) -> Mirror:
    return Mirror(lambda: S3Sessions(S3Location(BUCKET, f"{bucket.prefix}/sessions"), S3Options()))


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
    newer_there = "has a newer copy, of another coordinator, which is taken at the next start"
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
    assert "another copy, of another coordinator; restart" in mirrors[1].warnings()[0]
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
    "garbage": (b"garbage", "in its copy is not JSON"),
    "of another key": (
        SessionKey((pyrage.x25519.Identity.generate(),)).encrypt(b"{}"),
        "in its copy is encrypted for",
    ),
    "cut": (KEY.encrypt(b"{}")[:-1], "in its copy is a damaged age file"),
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


class OneBucket:
    """A bucket in memory, which lets another coordinator come between a look and a write: no real one does at will."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.between: Callable[[], object] | None = None

    def read(self, key: str) -> Fetched:
        if key not in self.objects:
            raise ObjectGone
        return Fetched(self.objects[key], hashlib.sha256(self.objects[key]).hexdigest())

    def write(self, key: str, data: bytes, *, replaces: str | None) -> str:
        between, self.between = self.between, None
        if between is not None:
            between()
        there = self.objects.get(key)
        if (there is None) != (replaces is None) or (there and hashlib.sha256(there).hexdigest() != replaces):
            raise ObjectChanged
        self.objects[key] = data
        return hashlib.sha256(data).hexdigest()


class TwoCoordinators(RuleBasedStateMachine):
    """Two machines with a bucket in common start, save and upload in any order, also in the midst of an upload."""

    def __init__(self) -> None:
        super().__init__()
        self.bucket = OneBucket()
        self.files: list[SessionFile] = []
        self.mirrors: list[Mirror] = []
        self.tokens: list[Token | None] = [None, None]
        for _ in range(2):
            folder = Path(os.environ["MACHINES"]) / os.urandom(8).hex()
            folder.mkdir()
            self.files.append(SessionFile(folder, "ann", KEY))
            self.mirrors.append(Mirror(lambda: self.bucket, clock=itertools.count(0, 1000).__next__))
        self.newest = Token()

    @rule(who=st.integers(0, 1))
    def start(self, who: int) -> None:
        self.mirrors[who].fetch([self.files[who]])
        self.tokens[who] = granted = self.files[who].grant(f"{who}{os.urandom(4).hex()}")
        there = self.there()
        assert there is None or granted.number > there.token.number, "it begins behind what the bucket has"

    @rule(who=st.integers(0, 1), value=st.integers())
    def save(self, who: int, value: int) -> None:
        if (token := self.tokens[who]) is not None:
            save(self.files[who], token, str(value))

    @rule(who=st.integers(0, 1), in_between=st.booleans())
    def upload(self, who: int, in_between: bool) -> None:
        other = 1 - who
        if in_between:
            self.bucket.between = lambda: self.mirrors[other].upload([self.files[other]])
        self.mirrors[who].upload([self.files[who]])
        self.bucket.between = None

    def there(self) -> SavedSession | None:
        data = self.bucket.objects.get("ann")
        return None if data is None else SavedSession.from_bytes(data, KEY)

    @invariant()
    def no_older_start_replaces_a_newer_one(self) -> None:
        there = self.there()
        if there is not None:
            assert there.token.number >= self.newest.number
            assert there.token.number > self.newest.number or there.token.holder == self.newest.holder
            self.newest = there.token


def test_of_two_coordinators_the_later_one_stays_in_the_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACHINES", str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # for a busy disk takes long, and nothing crashes here
    run_state_machine_as_test(TwoCoordinators, settings=settings(max_examples=size(25, 200), stateful_step_count=20))


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
    one = Mirror(lambda: bucket, clock)
    save(file, file.grant("a"), "kept")
    asked_at = []
    for now in range(0, 3600, 5):
        before = bucket.asked
        one.upload([file])
        if bucket.asked > before:
            asked_at.append(now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    assert gaps[:4] == [5, 10, 20, 40]
    assert max(gaps) == gaps[-1] == 300
    assert one.failures == len(asked_at)
    one.upload([file], at_once=True)
    assert bucket.asked == len(asked_at) + 1
    assert one.warnings() == ["The saved session of ann is not uploaded: it does not answer."]

"""Which key file counts, what it may hold, and that a reload does not open the API by accident."""

from __future__ import annotations

import errno
import hashlib
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from contract import keys as auth_utils
from contract.keys import Role
from coordinator.errors import KeyFileError
from coordinator.profiles import Hydrator, LocalProfileProvider
from coordinator.profiles.errors import S3Unreachable
from tests.coordinator.profiles.support.corrupted_keys import ALL, SOUND, KeyFile
from tests.coordinator.profiles.support.mutants import Mutant, mutants
from tests.coordinator.profiles.support.relay import HANG_UP, relay
from tests.coordinator.profiles.support.states import login

if TYPE_CHECKING:
    from tests.coordinator.profiles.support.bucket import Bucket


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with one profile in the default folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "auth_profiles" / "active").mkdir(parents=True)
    (tmp_path / "auth_profiles" / "active" / "ann.json").write_bytes(login("ann"))
    return tmp_path / "auth_profiles"


def local_hydrator(folder: Path, *, operator: Path | None = None, require_key: bool = False) -> Hydrator:
    provider = LocalProfileProvider(folder / "active")
    return Hydrator(provider, operator_key_file=operator, require_key=require_key)


# Precedence


def test_without_any_key_file_the_api_is_open(local: Path) -> None:
    hydration = local_hydrator(local).hydrate()
    assert (hydration.key_file, bool(hydration.keys)) == (None, False)


def test_default_key_file_counts_if_it_is_there(local: Path) -> None:
    (local / "key.txt").write_text("default-key\n")
    hydration = local_hydrator(local).hydrate()
    assert hydration.key_file == local / "key.txt"
    assert hydration.keys.verify("default-key")


def test_operators_key_file_comes_before_all_others(local: Path, tmp_path: Path) -> None:
    (local / "key.txt").write_text("default-key\n")
    (tmp_path / "mine.txt").write_text("operators-key\n")
    hydration = local_hydrator(local, operator=tmp_path / "mine.txt").hydrate()
    assert hydration.key_file == tmp_path / "mine.txt"
    assert hydration.keys.verify("operators-key")
    assert not hydration.keys.verify("default-key")


def test_hydrated_key_file_comes_before_the_default(bucket: Bucket, local: Path, cache: Path) -> None:
    (local / "key.txt").write_text("default-key\n")
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"bucket-key\n")
    hydration = Hydrator(bucket.provider(cache)).hydrate()
    assert hydration.key_file == cache / "current" / "key.txt"
    assert hydration.keys.verify("bucket-key")
    assert not hydration.keys.verify("default-key")


def test_default_counts_where_the_bucket_has_none(bucket: Bucket, local: Path, cache: Path) -> None:
    (local / "key.txt").write_text("default-key\n")
    bucket.put(ann=login("ann"))
    assert Hydrator(bucket.provider(cache)).hydrate().keys.verify("default-key")


def test_operators_key_file_comes_before_the_hydrated_one(bucket: Bucket, tmp_path: Path, cache: Path) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"bucket-key\n")
    (tmp_path / "mine.txt").write_text("operators-key\n")
    hydration = Hydrator(bucket.provider(cache), operator_key_file=tmp_path / "mine.txt").hydrate()
    assert hydration.keys.verify("operators-key")
    assert not hydration.keys.verify("bucket-key")


def test_operators_key_file_that_is_missing_is_an_error_and_is_not_made(local: Path, tmp_path: Path) -> None:
    (local / "key.txt").write_text("default-key\n")
    missing = tmp_path / "missing.txt"
    with pytest.raises(KeyFileError, match=r"missing\.txt .*\(AUTH_KEY_FILE_PATH\)"):
        local_hydrator(local, operator=missing).hydrate()
    assert not missing.exists()


# What it may hold


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.cause)
def test_bad_key_file_is_named_with_its_reason(case: KeyFile, local: Path) -> None:
    case.put(local / "key.txt")
    with case.reading_fails(), pytest.raises(KeyFileError) as caught:
        local_hydrator(local).hydrate()
    assert str(caught.value).replace(str(local), "FOLDER") == case.message


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.cause)
def test_odd_key_file_that_is_in_order_is_accepted(case: KeyFile, local: Path) -> None:
    case.put(local / "key.txt")
    keys = local_hydrator(local).hydrate().keys
    assert len(keys) == len(case.keys)
    assert all(keys.verify(key) for key in case.keys)


def test_every_check_of_key_files_that_is_taken_out_makes_a_case_fail(tmp_path: Path) -> None:
    all_mutants = list(mutants("keys", Path(auth_utils.__file__), "KeyFileError"))
    assert len(all_mutants) >= 7
    in_vain = [str(mutant) for mutant in all_mutants if not _noticed(mutant, tmp_path)]
    assert not in_vain, "\n".join(in_vain)


def _noticed(mutant: Mutant, folder: Path) -> bool:
    module = ModuleType("mutant")
    exec(mutant.code(), module.__dict__)
    said = any(_said(module, case, folder) != case.message for case in (*SOUND, *ALL))
    return said or not _unseen_default_is_an_error(module)


def _said(module: Any, case: KeyFile, folder: Path) -> str:
    """What is said of a key file, "" if it is accepted, or the name of a stray exception."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        case.put(Path(place) / "key.txt")
        try:
            with case.reading_fails():
                module.KeyStore.from_file(Path(place) / "key.txt")
        except module.KeyFileError as error:
            return str(error).replace(place, "FOLDER")
        except Exception as error:  # noqa: BLE001 - with a check taken out anything may happen
            return type(error).__name__
    return ""


def _unseen_default_is_an_error(module: Any) -> bool:
    with patch.object(Path, "exists", side_effect=PermissionError(errno.EACCES, "Permission denied")):
        try:
            module.default_key_file()
        except module.KeyFileError as error:
            return "auth_profiles/key.txt cannot be seen by uid" in str(error)
    return False


def test_unseen_default_is_an_error() -> None:
    assert _unseen_default_is_an_error(auth_utils)


def test_malformed_key_file_in_the_bucket_is_an_error_that_names_it_and_changes_nothing(
    bucket: Bucket, cache: Path
) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"good-key\n")
    hydrator = Hydrator(bucket.provider(cache))
    before = hydrator.hydrate()
    bucket.put(bob=login("bob"))
    bucket.put_keys(b"# comment\nsha256:123secret\n")
    with pytest.raises(KeyFileError) as caught:
        hydrator.hydrate()
    assert str(caught.value) == (
        f"s3://profiles/{bucket.prefix}/key.txt: key file key.txt, line 2: sha256: takes exactly 64 hex digits"
    )
    assert before.key_file is not None
    assert before.key_file.read_text() == "good-key\n"
    assert [path.name for path in before.result.profiles_dir.iterdir()] == ["ann.json"]


def test_hashed_keys_in_the_bucket_let_the_key_itself_in(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"sha256:" + hashlib.sha256(b"the-key").hexdigest().encode() + b"\n")
    keys = Hydrator(bucket.provider(cache)).hydrate().keys
    assert (len(keys), keys.verify("the-key")) == (1, True)


def test_empty_key_file_in_the_bucket_is_valid_and_means_an_open_api(bucket: Bucket, local: Path, cache: Path) -> None:
    (local / "key.txt").write_text("default-key\n")
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"")
    hydration = Hydrator(bucket.provider(cache)).hydrate()
    assert (hydration.key_file, len(hydration.keys)) == (cache / "current" / "key.txt", 0)


# REQUIRE_API_KEY


def test_required_key_that_is_nowhere_is_an_error(local: Path) -> None:
    with pytest.raises(KeyFileError, match="REQUIRE_API_KEY is set, but there is no key file; put a key into key"):
        local_hydrator(local, require_key=True).hydrate()


def test_required_key_with_an_empty_file_is_an_error(local: Path) -> None:
    (local / "key.txt").write_text("# none yet\n")
    with pytest.raises(KeyFileError, match=r"^REQUIRE_API_KEY is set, but .*key\.txt holds none"):
        local_hydrator(local, require_key=True).hydrate()


def test_required_key_that_is_there_is_fine(local: Path) -> None:
    (local / "key.txt").write_text("default-key\n")
    assert local_hydrator(local, require_key=True).hydrate().keys.verify("default-key")


# Reloads


@pytest.mark.parametrize("content", [None, b"", b"# all gone\n"], ids=["deleted", "empty", "only comments"])
def test_reload_that_would_lose_all_keys_keeps_them_loudly(bucket: Bucket, cache: Path, content: bytes | None) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"first-key\n")
    hydrator = Hydrator(bucket.provider(cache))
    hydrator.hydrate()
    if content is None:
        bucket.remove("key.txt")
    else:
        bucket.put_keys(content)
    for _ in range(2):
        hydration = hydrator.hydrate()
        assert hydration.keys.verify("first-key")
        assert hydration.warnings == (
            f"s3://profiles/{bucket.prefix}/key.txt has no keys any more; those of the last hydration stay in force",
        )
        assert hydration.key_file is not None
        assert hydration.key_file.read_bytes() == b"first-key\n", "children read the file at their next start"


def test_new_keys_are_taken_at_a_reload(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"first-key\n")
    hydrator = Hydrator(bucket.provider(cache))
    hydrator.hydrate()
    bucket.put_keys(b"second-key\n")
    keys = hydrator.hydrate().keys
    assert (keys.verify("second-key"), keys.verify("first-key")) == (True, False)


def test_roles_come_from_the_bucket_and_follow_its_reloads(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"first role=operate\nsecond\n")
    hydrator = Hydrator(bucket.provider(cache))
    keys = hydrator.hydrate().keys
    assert [keys.role_of(key) for key in ("first", "second")] == [Role.OPERATE, Role.CALL]
    bucket.put_keys(b"first\nsecond role=view\n")
    keys = hydrator.hydrate().keys
    assert [keys.role_of(key) for key in ("first", "second")] == [Role.CALL, Role.VIEW]


def test_roles_of_a_local_key_file_follow_its_reloads(local: Path) -> None:
    (local / "key.txt").write_text("first role=operate\n")
    hydrator = local_hydrator(local)
    assert hydrator.hydrate().keys.role_of("first") is Role.OPERATE
    (local / "key.txt").write_text("first\n")
    assert hydrator.hydrate().keys.role_of("first") is Role.CALL


def test_keys_that_come_back_after_they_were_lost_are_taken(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"first-key\n")
    hydrator = Hydrator(bucket.provider(cache))
    hydrator.hydrate()
    bucket.remove("key.txt")
    hydrator.hydrate()
    bucket.put_keys(b"first-key\nsecond-key\n")
    hydration = hydrator.hydrate()
    assert (len(hydration.keys), hydration.warnings) == (2, ())


def test_new_process_takes_the_bucket_at_its_word(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"first-key\n")
    Hydrator(bucket.provider(cache)).hydrate()
    bucket.remove("key.txt")
    hydration = Hydrator(bucket.provider(cache)).hydrate()
    assert (hydration.key_file, len(hydration.keys)) == (None, 0)


def test_local_keys_that_are_gone_stay_in_force_loudly(local: Path) -> None:
    (local / "key.txt").write_text("default-key\n")
    hydrator = local_hydrator(local)
    hydrator.hydrate()
    (local / "key.txt").unlink()
    hydration = hydrator.hydrate()
    assert hydration.keys.verify("default-key")
    assert hydration.warnings == ("the reload found no API keys; the earlier ones stay in force",)


# Stale starts


def test_stale_start_brings_the_keys_of_the_last_hydration(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"first-key\n")
    Hydrator(bucket.provider(cache)).hydrate()
    with relay(bucket.server.url, lambda _line: HANG_UP) as dead:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", dead.url)
        hydrator = Hydrator(bucket.provider(cache, allow_stale=True))
        assert hydrator.hydrate().keys.verify("first-key")
        with pytest.raises(S3Unreachable):
            hydrator.hydrate()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bucket.server.url)
    bucket.remove("key.txt")
    assert hydrator.hydrate().keys.verify("first-key")

"""Hydration from a real S3 server whose keys may only read."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from contract.keys import KeyStore
from coordinator.errors import NoUsableProfile
from coordinator.profiles import Hydrator
from coordinator.profiles.errors import CacheError
from tests.coordinator.profiles.support.relay import FORWARD, error_answer, relay
from tests.coordinator.profiles.support.states import cookie, login, state

if TYPE_CHECKING:
    from coordinator.profiles import ProfileHydrationResult
    from tests.coordinator.profiles.support.bucket import Bucket


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def names(result: ProfileHydrationResult) -> list[str]:
    """The accepted profiles."""
    assert result.discovery is not None
    return [profile.name for profile in result.discovery.accepted]


def files(result: ProfileHydrationResult) -> list[str]:
    """What lies in the folder of profiles."""
    return sorted(path.name for path in result.profiles_dir.iterdir())


def rejected(result: ProfileHydrationResult) -> dict[str, str]:
    assert result.discovery is not None
    return {item.name: item.reason for item in result.discovery.rejected}


def test_fresh_hydration_brings_profiles_and_keys(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"))
    bucket.put_keys(b"first-key\n")
    result = bucket.provider(cache).hydrate()
    assert names(result) == ["ann", "bob"]
    assert files(result) == ["ann.json", "bob.json"]
    assert (result.profiles_dir / "ann.json").read_bytes() == login("ann")
    assert result.key_file is not None
    assert KeyStore.from_file(result.key_file).verify("first-key")
    assert json.loads(result.model_dump_json()) == {
        "profiles_dir": str(cache / "current" / "active"),
        "key_file": str(cache / "current" / "key.txt"),
    }


def test_everything_in_the_cache_is_for_us_alone(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"), bad=b"{")
    bucket.put_keys(b"first-key\n")
    bucket.provider(cache).hydrate()
    for path in (cache, *cache.rglob("*")):
        status = path.lstat()
        assert status.st_uid == os.geteuid()
        if stat.S_ISDIR(status.st_mode):
            assert stat.S_IMODE(status.st_mode) == 0o700
        elif stat.S_ISREG(status.st_mode):
            assert stat.S_IMODE(status.st_mode) == 0o600


def test_nothing_is_fetched_again_when_nothing_changed(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"), bad=b"{", copy=login("ann"))
    bucket.put_keys(b"first-key\n")
    first = bucket.provider(cache).hydrate()
    inode = first.profiles_dir.stat().st_ino
    for name, value in bucket.server.credentials("cannotread").items():
        monkeypatch.setenv(name, value)
    again = bucket.provider(cache).hydrate()
    assert (again, again.discovery) == (first, first.discovery)
    assert again.profiles_dir.stat().st_ino == inode


def test_only_the_changed_profile_is_fetched(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"))
    first = bucket.provider(cache).hydrate()
    bucket.put(bob=login("robert"))
    with relay(bucket.server.url) as counting:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", counting.url)
        second = bucket.provider(cache).hydrate()
    assert (counting.count("ann.json"), counting.count("bob.json")) == (0, 1)
    assert (second.profiles_dir, files(second)) == (first.profiles_dir, ["ann.json", "bob.json"])
    assert (second.profiles_dir / "bob.json").read_bytes() == login("robert")
    assert first.discovery is not None
    assert second.discovery is not None
    before, after = first.discovery.accepted, second.discovery.accepted
    assert (before[0] == after[0], before[1].sha256 == after[1].sha256) == (True, False)


def test_removed_profile_leaves_the_folder(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"))
    provider = bucket.provider(cache)
    provider.hydrate()
    bucket.remove("active/bob.json")
    assert files(provider.hydrate()) == ["ann.json"]
    assert not list(cache.rglob("bob.json"))


def test_listing_goes_on_past_the_first_page(bucket: Bucket, cache: Path) -> None:
    bucket.put(**{f"user{number:04}": login(f"user{number}") for number in range(1010)})
    result = bucket.provider(cache).hydrate()
    assert names(result) == [f"user{number:04}" for number in range(1010)]
    assert len(files(result)) == 1010


@pytest.mark.parametrize("form", ["", "deep/er", "/slashes/"])
def test_prefix_may_be_written_in_any_form(bucket: Bucket, cache: Path, form: str) -> None:
    from coordinator.flags import load_settings

    inside = "/".join(filter(None, [form.strip("/"), "active/ann.json"]))
    bucket.server.upload({inside: login("ann")})
    flags = ["--auth-profile-s3-bucket", "profiles", "--auth-profile-s3-prefix", form, "--profile-backend", "s3"]
    settings = load_settings([*flags, "--auth-profile-cache-dir", str(cache)])
    hydration = Hydrator.from_settings(settings).hydrate()
    bucket.server.delete(inside)
    assert [profile.name for profile in hydration.discovery.accepted] == ["ann"]


def test_bad_profiles_are_left_out_of_the_folder_with_their_reasons(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"), broken=b"{", copy=login("ann"), old=state(cookie(expires=5)), empty=b"")
    bucket.put_as(
        {
            "active/team/eve.json": login("eve"),
            "active/readme.md": b"not a profile",
            "active/CAPITALS.JSON": login("eve"),
            "active/huge.json": b" " * (16 * 1024 * 1024 + 1),
            "active/line\nbreak.json": login("eve"),
            "other.json": login("eve"),
        }
    )
    result = bucket.provider(cache).hydrate()
    assert files(result) == ["ann.json"]
    assert rejected(result) == {
        "CAPITALS.JSON": "has a name that does not end in .json, in lower case",
        "broken.json": "ends in the middle (line 1, column 2); was the upload cut off?",
        "copy.json": "is the same file as ann.json",
        "empty.json": "is empty (0 bytes)",
        "huge.json": "is larger than the 16777216 bytes a profile may have",
        "line\\nbreak.json": "has a name with other characters than letters, digits, spaces and _ . @ + = ~ , ( ) -",
        "old.json": "has only expired cookies, the last since 1970-01-01 00:00 UTC; log in again and save it",
        "team/": "is a folder; only objects directly under active/ are read",
    }


def test_profile_held_back_comes_in_without_a_fetch_when_its_reason_goes(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"), copy=login("ann"))
    bucket.provider(cache).hydrate()
    bucket.remove("active/ann.json")
    for name, value in bucket.server.credentials("cannotread").items():
        monkeypatch.setenv(name, value)
    assert files(bucket.provider(cache).hydrate()) == ["bob.json", "copy.json"]


def test_no_usable_profile_is_an_error_and_the_last_set_stays(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"))
    provider = bucket.provider(cache)
    result = provider.hydrate()
    bucket.put(ann=b"{")
    with pytest.raises(NoUsableProfile) as caught:
        provider.hydrate()
    assert str(caught.value) == (
        f"S3 backend configured but no auth profiles downloaded from {bucket.uri}:"
        " ann.json ends in the middle (line 1, column 2); was the upload cut off?"
    )
    assert (result.profiles_dir / "ann.json").read_bytes() == login("ann")


def test_object_deleted_between_listing_and_reading_is_not_there(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"))

    def delete_bob(line: str) -> None:
        if "start-after=" in line:  # the listing that looks for the key file
            bucket.remove("active/bob.json")

    with relay(bucket.server.url, delete_bob) as meddling:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddling.url)
        result = bucket.provider(cache).hydrate()
    assert (names(result), rejected(result)) == (["ann"], {})


def test_damaged_file_in_the_cache_is_fetched_again(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"))
    result = bucket.provider(cache).hydrate()
    (result.profiles_dir / "ann.json").write_bytes(login("eve"))
    again = bucket.provider(cache).hydrate()
    assert (again.profiles_dir / "ann.json").read_bytes() == login("ann")


@pytest.mark.parametrize("index", [b"", b"{}", b"[]", b'{"entries": []}', b'{"entries": {"a": 1}}', b"\xff"])
def test_damaged_index_costs_a_full_fetch(bucket: Bucket, cache: Path, index: bytes) -> None:
    bucket.put(ann=login("ann"))
    result = bucket.provider(cache).hydrate()
    (cache / "current" / "index.json").write_bytes(index)
    assert names(bucket.provider(cache).hydrate()) == names(result)


def test_readers_never_see_half_a_set(bucket: Bucket, cache: Path) -> None:
    one = {f"one{number}": login(f"one{number}") for number in range(20)}
    two = {f"two{number}": login(f"two{number}") for number in range(20)}
    bucket.put(**one)
    provider = bucket.provider(cache)
    provider.hydrate()
    seen: set[tuple[str, ...]] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            with suppress(FileNotFoundError):
                before = (cache / "current").readlink()
                found = tuple(sorted(path.name for path in (cache / before / "active").iterdir()))
                if (cache / "current").readlink() == before:
                    seen.add(found)

    watcher = threading.Thread(target=look)
    watcher.start()
    for old, new in ((one, two), (two, one)) * 2:
        bucket.remove(*(f"active/{name}.json" for name in old))
        bucket.put(**new)
        provider.hydrate()
    done.set()
    watcher.join()
    assert seen == {tuple(sorted(f"{name}.json" for name in profiles)) for profiles in (one, two)}


def test_cache_of_a_running_process_is_not_taken_over_by_another_source(bucket: Bucket, cache: Path) -> None:
    from dataclasses import replace

    elsewhere = replace(bucket, prefix=f"{bucket.prefix}-elsewhere")
    bucket.put(ann=login("ann"))
    elsewhere.put(bob=login("bob"))
    running = bucket.provider(cache)
    running.hydrate()
    with pytest.raises(CacheError, match="is in use by a process with profiles from elsewhere; name another one"):
        elsewhere.provider(cache).hydrate()
    running._cache.close()
    assert files(elsewhere.provider(cache).hydrate()) == ["bob.json"]


def test_hydrations_at_the_same_time_wait_for_each_other(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: bucket.provider(cache).hydrate(), range(4)))
    assert [names(result) for result in results] == [["ann", "bob"]] * 4
    assert len(list((cache / "sets").iterdir())) == 1


def test_wait_for_another_hydration_has_an_end(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.profiles.cache.LOCK_TIMEOUT_S", 0.1)
    cache.mkdir()
    with (cache / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CacheError, match=r"another process has been at work in .* for 0 seconds"):
            bucket.provider(cache).hydrate()


def test_storage_without_etags_is_read_anew_each_time(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(ann=login("ann"))
    monkeypatch.setattr("coordinator.profiles.s3_client.bare_etag", lambda _header: "")
    bucket.provider(cache).hydrate()
    bucket.put(ann=login("bob"))
    assert len(login("ann")) == len(login("bob"))
    result = bucket.provider(cache).hydrate()
    assert (result.profiles_dir / "ann.json").read_bytes() == login("bob")


def test_replaced_credentials_are_read_at_the_next_reload(
    bucket: Bucket, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(ann=login("ann"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def put_keys_of(identity: str) -> None:
        keys = bucket.server.credentials(identity)
        file.write_text(
            f"[default]\naws_access_key_id = {keys['AWS_ACCESS_KEY_ID']}\n"
            f"aws_secret_access_key = {keys['AWS_SECRET_ACCESS_KEY']}\n"
        )

    refusals: list[bytes] = []
    with relay(bucket.server.url, lambda _line: refusals.pop() if refusals else FORWARD) as meddling:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", meddling.url)
        put_keys_of("reader")
        provider = bucket.provider(cache)
        provider.hydrate()
        put_keys_of("everywhere")
        refusals += [error_answer(403, "InvalidAccessKeyId")] * 2  # to obstore, and to boto3 after it
        assert names(provider.hydrate()) == ["ann"]
    assert provider._client is not None
    credentials = provider._client._boto()._session.get_credentials()
    assert (refusals, credentials and credentials.access_key) == ([], "AKEVERYWHERE")


# What was found is kept in the index


def test_checked_profiles_are_not_checked_again_by_the_next_process(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"))
    first = bucket.provider(cache).hydrate()
    monkeypatch.setattr("coordinator.profiles.s3.examine", None)
    assert bucket.provider(cache).hydrate().discovery == first.discovery


def test_they_are_checked_again_when_the_checks_have_changed(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(ann=login("ann"))
    with monkeypatch.context() as earlier:
        earlier.setattr("coordinator.profiles.cache.CHECKS_VERSION", 0)
        first = bucket.provider(cache).hydrate()
    with monkeypatch.context() as unchecked:
        unchecked.setattr("coordinator.profiles.s3.examine", None)
        with pytest.raises(TypeError):
            bucket.provider(cache).hydrate()
    assert bucket.provider(cache).hydrate().discovery == first.discovery
    monkeypatch.setattr("coordinator.profiles.s3.examine", None)
    assert bucket.provider(cache).hydrate().discovery == first.discovery, "the index is of the new checks"
    assert len(list((cache / "sets").iterdir())) == 1


@pytest.mark.parametrize("finding", [[], {}, 1, {"sites": 1, "expiries": []}, {"sites": ["a"]}])
def test_damaged_finding_costs_a_full_fetch(bucket: Bucket, cache: Path, finding: object) -> None:
    bucket.put(ann=login("ann"))
    first = bucket.provider(cache).hydrate()
    index = json.loads((cache / "current" / "index.json").read_text())
    for entry in index["entries"].values():
        entry[-1] = finding
    (cache / "current" / "index.json").write_text(json.dumps(index))
    assert bucket.provider(cache).hydrate().discovery == first.discovery


def test_expiry_is_judged_anew_each_time(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put(ann=state(cookie(expires=4_000_000_000)), bob=login("bob"))
    bucket.provider(cache).hydrate()
    monkeypatch.setattr("coordinator.profiles.s3.time.time", lambda: 4_000_000_001.0)
    result = bucket.provider(cache).hydrate()
    assert [path.name for path in result.profiles_dir.iterdir()] == ["bob.json"]


def test_index_holds_no_secret(bucket: Bucket, cache: Path) -> None:
    bucket.put(ann=login("ann"))
    bucket.provider(cache).hydrate()
    index = (cache / "current" / "index.json").read_text()
    assert "chat.example.com" in index
    assert "token-of-ann" not in index

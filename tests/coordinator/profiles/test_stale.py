"""Starting on the last hydration when S3 cannot be reached, and only then."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from coordinator.profiles import Hydrator
from coordinator.profiles.errors import S3Refused, S3Unreachable
from tests.coordinator.profiles.support.program import failure, run
from tests.coordinator.profiles.support.relay import HANG_UP, error_answer, relay
from tests.coordinator.profiles.support.states import cookie, login, state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.coordinator.profiles.support.bucket import Bucket


@pytest.fixture
def cache(bucket: Bucket, tmp_path: Path) -> Path:
    """The cache after a hydration of two profiles and a key."""
    bucket.put(ann=login("ann"), bob=login("bob"), broken=b"{")
    bucket.put_keys(b"first-key\n")
    provider = bucket.provider(tmp_path / "cache")
    provider.hydrate()
    provider._cache.close()
    return tmp_path / "cache"


@pytest.fixture
def unreachable(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """S3 hangs up on every request."""
    with relay(bucket.server.url, lambda _line: HANG_UP) as dead:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", dead.url)
        yield


@pytest.mark.usefixtures("unreachable")
def test_default_is_to_fail_with_the_reason(bucket: Bucket, cache: Path) -> None:
    with pytest.raises(S3Unreachable, match="broke the connection off; try again later"):
        bucket.provider(cache).hydrate()


@pytest.mark.usefixtures("unreachable")
def test_stale_start_has_the_profiles_and_says_so(bucket: Bucket, cache: Path) -> None:
    hydration = Hydrator(bucket.provider(cache, allow_stale=True)).hydrate()
    assert hydration.stale
    assert [profile.name for profile in hydration.discovery.accepted] == ["ann", "bob"]
    assert [item.name for item in hydration.discovery.rejected] == ["broken.json"]
    (warning,) = hydration.warnings
    assert re.match(
        r"stale profiles: S3 cannot be reached, these are of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(s3://profiles/",
        warning,
    )


@pytest.mark.usefixtures("unreachable")
def test_stale_start_without_an_earlier_hydration_fails(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(S3Unreachable):
        bucket.provider(tmp_path / "new", allow_stale=True).hydrate()


@pytest.mark.usefixtures("unreachable")
def test_stale_start_never_takes_another_buckets_profiles(bucket: Bucket, cache: Path) -> None:
    from dataclasses import replace

    with pytest.raises(S3Unreachable):
        replace(bucket, prefix="elsewhere").provider(cache, allow_stale=True).hydrate()


def test_reload_is_never_stale(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = bucket.provider(cache, allow_stale=True)
    provider.hydrate()
    with relay(bucket.server.url, lambda _line: HANG_UP) as dead:
        assert provider._client is not None
        provider._client = None
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", dead.url)
        with pytest.raises(S3Unreachable):
            provider.hydrate()


def test_refusal_is_not_passed_over(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "revoked")
    with pytest.raises(S3Refused):
        bucket.provider(cache, allow_stale=True).hydrate()


def test_server_errors_count_as_unreachable(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with relay(bucket.server.url, lambda _line: error_answer(503, "SlowDown")) as throttling:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", throttling.url)
        assert bucket.provider(cache, allow_stale=True).hydrate().stale


def test_stale_profiles_that_have_expired_since_are_left_out(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unittest.mock import patch

    cache = tmp_path / "cache"
    bucket.put(ann=state(cookie(expires=4_000_000_000)), bob=state(cookie(name="other", expires=4_000_000_500)))
    bucket.provider(cache).hydrate()
    with relay(bucket.server.url, lambda _line: HANG_UP) as dead:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", dead.url)
        with patch("coordinator.profiles.s3.time.time", lambda: 4_000_000_100.0):
            discovery = bucket.provider(cache, allow_stale=True).hydrate().discovery
    assert discovery is not None
    assert [profile.name for profile in discovery.accepted] == ["bob"]
    assert [item.name for item in discovery.rejected] == ["ann.json"]


def test_first_reload_after_a_stale_start_brings_it_up_to_date(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [HANG_UP]
    with relay(bucket.server.url, lambda _line: answers[0] if answers else None) as flaky:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", flaky.url)
        hydrator = Hydrator(bucket.provider(cache, allow_stale=True))
        assert hydrator.hydrate().stale
        answers.clear()
        bucket.put(eve=login("eve"))
        hydration = hydrator.hydrate()
    assert (hydration.stale, hydration.warnings) == (False, ())
    assert [profile.name for profile in hydration.discovery.accepted] == ["ann", "bob", "eve"]


def test_program_starts_stale_with_a_warning_in_its_log(bucket: Bucket, cache: Path) -> None:
    with relay(bucket.server.url, lambda _line: HANG_UP) as dead:
        environment = bucket.environment(cache, AWS_ENDPOINT_URL_S3=dead.url)
        refused = run(["hydrate"], environment)
        stale = run(["hydrate", "--auth-profile-allow-stale"], environment)
    assert failure(refused)[0] == 5
    assert stale.returncode == 0
    assert str(cache / "current" / "active") in stale.stdout
    assert '"message": "stale profiles: S3 cannot be reached' in stale.stderr

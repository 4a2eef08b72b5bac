"""The fleet file beside the profiles in a bucket: fetched with them, switched to with them, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordinator.errors import FleetFileError
from coordinator.flags import load_settings
from coordinator.fleet_file.load import FleetFileReader
from coordinator.profiles import Hydrator
from coordinator.profiles.errors import S3Unreachable
from coordinator.profiles.s3 import S3ProfileProvider
from tests.coordinator.profiles.support.relay import HANG_UP, relay
from tests.coordinator.profiles.support.states import login

if TYPE_CHECKING:
    from coordinator.profiles import Hydration
    from tests.coordinator.profiles.support.bucket import Bucket

GOOD = b"[[login]]\nname = 'ann'\nlocale = 'de-DE'\n[alias]\nfast = ['demo-small']\n"
READER = FleetFileReader("demo")


def put(bucket: Bucket, content: bytes) -> None:
    bucket.put_as({"fleet.toml": content})


def hydrator(bucket: Bucket, cache: Path, *, allow_stale: bool = False) -> Hydrator:
    return Hydrator(bucket.provider(cache, allow_stale=allow_stale, fleet_file=READER))


def locales(hydration: Hydration) -> dict[str, str | None]:
    return {profile.name: profile.login.surroundings.locale for profile in hydration.discovery.accepted}


@pytest.fixture
def cache(bucket: Bucket, tmp_path: Path) -> Path:
    bucket.put(ann=login("ann"), bob=login("bob"))
    put(bucket, GOOD)
    return tmp_path / "cache"


def test_it_comes_with_the_profiles(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hydrating = hydrator(bucket, cache)
    hydration = hydrating.hydrate()
    assert (locales(hydration), dict(hydration.aliases)) == ({"ann": "de-DE", "bob": None}, {"fast": ("demo-small",)})
    with relay(bucket.server.url) as counting:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", counting.url)
        again = Hydrator(bucket.provider(cache, fleet_file=READER)).hydrate()
        assert locales(again) == locales(hydration)
        # It has not changed.
        assert not [line for line in counting.requests if line.startswith("GET") and "/fleet.toml" in line]
    put(bucket, GOOD.replace(b"de-DE", b"fr-FR"))
    assert locales(hydrating.hydrate())["ann"] == "fr-FR"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[[login]]\nname = 'ann'\nlocale = 'de_DE'\n", r"fleet\.toml, line 3: login\[0\]\.locale: is no BCP 47"),
        (b"[[login]]\nname = 'ann'\nmodels = ['gone']\n", r"fleet\.toml, line 3: login\[0\]\.models: names 'gone'"),
        (
            b"[[login]]\nname = 'ann'\nsite = './a.toml'\n",
            r"line 3: login\[0\]\.site: is relative, and this file lies in",
        ),
    ],
    ids=["locale", "models", "path"],
)
def test_a_wrong_one_changes_nothing(bucket: Bucket, cache: Path, content: bytes, says: str) -> None:
    hydrating = hydrator(bucket, cache)
    hydrating.hydrate()
    profile = cache / "current/active/bob.json"
    before = profile.read_bytes()
    bucket.put(bob=login("robert"), carl=login("carl"))
    put(bucket, content)
    with pytest.raises(FleetFileError, match=says) as caught:
        hydrating.hydrate()
    assert str(caught.value).startswith("fleet file s3://")
    assert profile.read_bytes() == before
    assert not (cache / "current/active/carl.json").exists()
    put(bucket, GOOD)
    assert set(locales(hydrating.hydrate())) == {"ann", "bob", "carl"}


def test_one_that_is_gone_is_an_error(bucket: Bucket, cache: Path) -> None:
    hydrating = hydrator(bucket, cache)
    hydrating.hydrate()
    bucket.remove("fleet.toml")
    with pytest.raises(FleetFileError, match=r"^FLEET_FILE=s3, but there is no s3://\S+/fleet\.toml; put one there"):
        hydrating.hydrate()


def test_a_start_without_s3_has_the_last_one(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bucket.provider(cache, fleet_file=READER)
    Hydrator(first).hydrate()
    first._cache.close()
    with relay(bucket.server.url, lambda _line: HANG_UP) as dead:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", dead.url)
        hydration = hydrator(bucket, cache, allow_stale=True).hydrate()
    assert (hydration.stale, locales(hydration)["ann"]) == (True, "de-DE")


def test_and_none_without_one(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept by a coordinator without FLEET_FILE=s3 says nothing of where logins belong."""
    first = bucket.provider(cache)
    Hydrator(first).hydrate()
    first._cache.close()
    with relay(bucket.server.url, lambda _line: HANG_UP) as dead:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", dead.url)
        with pytest.raises(S3Unreachable):
            hydrator(bucket, cache, allow_stale=True).hydrate()


def test_without_the_setting_it_is_not_read(bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with relay(bucket.server.url) as counting:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", counting.url)
        assert locales(Hydrator(bucket.provider(cache)).hydrate())["ann"] is None
        assert counting.count("fleet.toml") == 0


def test_the_setting_asks_for_it() -> None:
    bucket = ["--profile-backend", "s3", "--auth-profile-s3-bucket", "b", "--site", "demo"]
    assert S3ProfileProvider.from_settings(load_settings([*bucket, "--fleet-file", "s3"]))._fleet_file == READER
    assert (
        S3ProfileProvider.from_settings(load_settings([*bucket, "--fleet-file", "/a/fleet.toml"]))._fleet_file is None
    )
    assert S3ProfileProvider.from_settings(load_settings(bucket))._fleet_file is None

"""Profiles in a local folder: found, checked, hydrated in place; and providers in general."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from coordinator.errors import NoUsableProfile, ProfileBackendError
from coordinator.flags import load_settings
from coordinator.profiles import (
    Discovery,
    Hydrator,
    LocalProfileProvider,
    ProfileHydrationResult,
    S3ProfileProvider,
    discover_profiles,
    hydrate,
    provider_for,
)
from coordinator.profiles.registry import PROVIDERS
from coordinator.profiles.s3_listing import list_bucket
from coordinator.profiles.s3_types import S3Location, S3Object
from tests.coordinator.profiles.support.states import cookie, login, origin, state

if TYPE_CHECKING:
    from coordinator.settings import Settings

NOW = 1_800_000_000.0


def names(discovery: Discovery) -> list[str]:
    return [profile.name for profile in discovery.accepted]


def write(folder: Path, **profiles: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in profiles.items():
        (folder / f"{name}.json").write_bytes(content)
    return folder


# Discovery


def test_profile_has_its_path_digest_and_earliest_expiry(tmp_path: Path) -> None:
    content = state(cookie(expires=4_000_000_000), cookie(name="b", expires=3_000_000_000), cookie(name="c", expires=5))
    write(tmp_path, ann=content)
    (profile,) = discover_profiles(tmp_path, now=NOW).accepted
    import hashlib

    assert (profile.name, profile.path) == ("ann", tmp_path / "ann.json")
    assert profile.sha256 == hashlib.sha256(content).hexdigest()
    assert profile.expires_at == 3_000_000_000


def test_cookies_of_the_session_never_expire(tmp_path: Path) -> None:
    write(tmp_path, ann=state(cookie(expires=-1)))
    (profile,) = discover_profiles(tmp_path, now=NOW).accepted
    assert profile.expires_at is None


def test_profiles_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path, **{name: login(name) for name in ("zoe", "Ann", "bob")})
    assert names(discover_profiles(tmp_path, now=NOW)) == ["Ann", "bob", "zoe"]


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, ann=login("ann"))
    for name in ("notes.txt", ".hidden.json", "ann.json.bak", "key.txt"):
        (tmp_path / name).write_bytes(b"{")
    (tmp_path / "folder").mkdir()
    assert discover_profiles(tmp_path, now=NOW).rejected == ()


def test_secret_mounted_by_kubernetes_is_followed_through_its_links(tmp_path: Path) -> None:
    write(tmp_path / "..2026_11_23", ann=login("ann"), bob=login("bob"))
    (tmp_path / "..data").symlink_to("..2026_11_23")
    for name in ("ann.json", "bob.json"):
        (tmp_path / name).symlink_to(Path("..data") / name)
    found = discover_profiles(tmp_path, now=NOW)
    assert (names(found), found.rejected) == (["ann", "bob"], ())


def test_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "real", ann=login("ann"))
    (tmp_path / "link").symlink_to("real")
    (profile,) = discover_profiles(tmp_path / "link", now=NOW).accepted
    assert profile.path == tmp_path / "link" / "ann.json"


def test_same_login_is_used_once_and_the_first_name_wins(tmp_path: Path) -> None:
    write(tmp_path, ann=login("ann"), copy=login("ann"), later=login("ann", expires=4_000_000_000))
    found = discover_profiles(tmp_path, now=NOW)
    assert names(found) == ["ann"]
    assert [item.name for item in found.rejected] == ["copy.json", "later.json"]


def test_login_of_a_profile_that_is_left_out_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, ann=login("ann", expires=5), later=login("ann"))
    assert names(discover_profiles(tmp_path, now=NOW)) == ["later"]


def test_logins_in_local_storage_are_told_apart(tmp_path: Path) -> None:
    def stored(token: str) -> bytes:
        values = [{"name": "token", "value": token}, {"name": "theme", "value": "dark"}]
        return state(cookie(name="balancer", value="node-1-of-the-cluster"), origins=[origin(localStorage=values)])

    write(tmp_path, ann=stored("0123456789abcdef-ann"), bob=stored("0123456789abcdef-bob"))
    assert names(discover_profiles(tmp_path, now=NOW)) == ["ann", "bob"]


def test_profiles_without_a_login_are_all_taken_and_secrets_are_told_apart(tmp_path: Path) -> None:
    secrets = [f'{{"secrets": {{"user": "{user}"}}}}'.encode() for user in ("ada", "grace", "ada")]
    write(tmp_path, one=state(), two=state(), x=secrets[0], y=secrets[1], z=secrets[2])
    found = discover_profiles(tmp_path, now=NOW)
    assert names(found) == ["one", "two", "x", "y"]
    assert [item.name for item in found.rejected] == ["z.json"]


def test_names_from_outside_are_shown_without_control_characters(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m.json").write_bytes(login("ann"))
    (rejected,) = discover_profiles(tmp_path, now=NOW).rejected
    assert rejected.name == "a\\x1b[31m.json"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (lambda path: None, "the profile folder {} does not exist"),
        (lambda path: path.touch(), "the profile folder {} is not a folder"),
        (lambda path: path.symlink_to(path), "the profile folder {} is a link that leads to itself"),
    ],
    ids=["missing", "a file", "a link to itself"],
)
def test_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, place: object, message: str) -> None:
    folder = tmp_path / "active"
    place(folder)  # type: ignore[operator]
    with pytest.raises(ProfileBackendError) as caught:
        discover_profiles(folder)
    assert str(caught.value) == message.format(folder)


# Local hydration


def test_local_folder_is_used_in_place_and_not_touched(tmp_path: Path) -> None:
    write(tmp_path, ann=login("ann"), bad=b"{")
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    hydration = Hydrator(LocalProfileProvider(tmp_path)).hydrate()
    assert hydration.result.profiles_dir == tmp_path
    assert names(hydration.discovery) == ["ann"]
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before


def test_result_as_json_has_the_two_paths_alone(tmp_path: Path) -> None:
    result = ProfileHydrationResult(profiles_dir=tmp_path, key_file=None, stale=True, warnings=("w",))
    assert json.loads(result.model_dump_json()) == {"profiles_dir": str(tmp_path), "key_file": None}


def test_relative_folder_becomes_absolute_since_children_run_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "active", ann=login("ann"))
    assert LocalProfileProvider(Path("active")).hydrate().profiles_dir == tmp_path / "active"


def test_hydrating_again_sees_what_has_changed(tmp_path: Path) -> None:
    write(tmp_path, ann=login("ann"), bob=login("bob"))
    hydrator = Hydrator(LocalProfileProvider(tmp_path))
    before = {profile.name: profile.sha256 for profile in hydrator.hydrate().discovery.accepted}
    write(tmp_path, bob=login("robert"), eve=login("eve"))
    after = {profile.name: profile.sha256 for profile in hydrator.hydrate().discovery.accepted}
    assert list(after) == ["ann", "bob", "eve"]
    assert (after["ann"] == before["ann"], after["bob"] == before["bob"]) == (True, False)


def test_bad_profile_is_logged_once_and_not_at_every_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged = Mock()
    monkeypatch.setattr("coordinator.profiles.hydration.log", logged)
    write(tmp_path, ann=login("ann"), bad=b"[]")
    hydrator = Hydrator(LocalProfileProvider(tmp_path))
    for content in (b"[]", b"[]", b"null"):
        write(tmp_path, bad=content)
        hydrator.hydrate()
    reasons = [call.kwargs["reason"] for call in logged.warning.call_args_list]
    assert reasons == [f"is {what}, not an object with cookies and origins" for what in ("a list", "null")]


def test_empty_folder_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(NoUsableProfile) as caught:
        Hydrator(LocalProfileProvider(tmp_path)).hydrate()
    assert str(caught.value) == f"no usable profile in {tmp_path} (LOCAL_PROFILE_DIR, --profiles)"


def test_error_for_bad_profiles_only_names_the_first_few_reasons(tmp_path: Path) -> None:
    write(tmp_path, **{f"bad{number}": b"[]" for number in range(7)})
    with pytest.raises(NoUsableProfile) as caught:
        Hydrator(LocalProfileProvider(tmp_path)).hydrate()
    reasons = "; ".join(f"bad{number}.json is a list, not an object with cookies and origins" for number in range(5))
    assert str(caught.value).endswith(f"--profiles): {reasons}; and 2 more")


def test_missing_folder_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ProfileBackendError) as caught:
        Hydrator(LocalProfileProvider(tmp_path / "gone")).hydrate()
    assert str(caught.value) == (
        f"the profile folder {tmp_path}/gone does not exist;"
        " LOCAL_PROFILE_DIR (--profiles) names the folder that holds the profiles (*.json)"
    )


# Providers


def test_settings_choose_the_provider() -> None:
    assert isinstance(provider_for(load_settings([])), LocalProfileProvider)
    s3 = provider_for(load_settings(["--profile-backend", "s3", "--auth-profile-s3-bucket", "b"]))
    assert isinstance(s3, S3ProfileProvider)
    assert s3.location == "s3://b/active/"


def test_further_provider_is_one_class_in_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FromTheShelf(LocalProfileProvider):
        @classmethod
        def from_settings(cls, settings: Settings, progress: object = None) -> FromTheShelf:
            return cls(write(tmp_path, ann=login("ann")))

    monkeypatch.setitem(PROVIDERS, "shelf", FromTheShelf)
    settings = load_settings([]).model_copy(update={"profile_backend": "shelf"})
    assert names(hydrate(settings).discovery) == ["ann"]


def test_local_start_does_not_load_the_sdk(tmp_path: Path) -> None:
    import subprocess
    import sys

    write(tmp_path, ann=login("ann"))
    program = (
        "import sys; from coordinator.profiles import hydrate; from coordinator.flags import load_settings;"
        f"hydrate(load_settings(['--profiles', {str(tmp_path)!r}])); print('boto3' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


# Listings that no test server can be made to give


class Listed:
    """A bucket that lists what it is told."""

    def __init__(self, *objects: S3Object, below: tuple[str, ...] = ()) -> None:
        self._objects, self._below = list(objects), list(below)

    def list_folder(self, prefix: str) -> tuple[list[S3Object], list[str]]:
        return self._objects, self._below

    def find(self, key: str) -> S3Object | None:
        return None


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("..\\..\\etc.json", 1, "has a name that would lead out of the folder"),
        ("...json", 1, "has a name that would lead out of the folder"),
        ("a\0.json", 1, "has a name with other characters than letters, digits, spaces and"),
        ("a.json", 16 * 1024**2 + 1, "is larger than the 16777216 bytes a profile may have"),
    ],
)
def test_object_is_left_out_before_it_is_fetched(name: str, size: int, reason: str) -> None:
    listing = list_bucket(Listed(S3Object(f"p/active/{name}", '"e"', size)), S3Location("b", "p"))
    assert listing.profiles == ()
    (left_out,) = listing.left_out
    assert left_out.reason.startswith(reason)


def test_keys_further_down_are_named_and_not_read() -> None:
    listing = list_bucket(Listed(below=("p/active/../", "p/active/team/")), S3Location("b", "p"))
    assert [(item.file_name, item.reason) for item in listing.left_out] == [
        ("../", "is a folder; only objects directly under active/ are read"),
        ("team/", "is a folder; only objects directly under active/ are read"),
    ]


def test_folder_marker_and_other_objects_are_passed_over() -> None:
    names_ = ("", "readme.md", "key.txt")
    listing = list_bucket(Listed(*(S3Object(f"active/{name}", "", 0) for name in names_)), S3Location("b"))
    assert (listing.profiles, listing.left_out) == ((), ())

"""Cells that use one set of profiles share it out: each accepted login is in exactly one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.errors import NoUsableProfile
from coordinator.profiles import Hydrator, LocalProfileProvider
from coordinator.profiles.discover import examine_folder, select_profiles
from coordinator.profiles.hydration import take_share
from coordinator.profiles.model import Discovery, Examined
from coordinator.shard import MOST_SHARDS, Shard
from tests.coordinator.profiles.support.states import login

pytestmark = pytest.mark.slow

NOW = 1_800_000_000.0

# Of few logins and characters, so that two names often hold the same login.
names = st.text("abc0-é", min_size=1, max_size=4).filter(lambda name: name[0] != "-")
logins = st.dictionaries(names, st.sampled_from(["ann", "bob", "eve", "kim", "broken"]), min_size=1, max_size=12)
counts = st.integers(1, 12)


def examined(folder: Path, owners: dict[str, str]) -> list[Examined]:
    """What is found in files of these names, each with somebody's login."""
    for name, owner in owners.items():
        (folder / f"{name}.json").write_bytes(b"{" if owner == "broken" else login(owner))
    found = [item for item in examine_folder(folder) if item.file_name.removesuffix(".json") in owners]
    for name in owners:
        (folder / f"{name}.json").unlink()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles")


def shares(discovery: Discovery, count: int) -> list[Discovery]:
    return [take_share(Shard(index, count), discovery)[0] for index in range(count)]


@given(owners=logins, count=counts)
def test_cells_partition_the_logins_of_one_set(folder: Path, owners: dict[str, str], count: int) -> None:
    discovery = select_profiles(examined(folder, owners), NOW)
    taken = [profile for share in shares(discovery, count) for profile in share.accepted]
    assert sorted(profile.name for profile in taken) == sorted(profile.name for profile in discovery.accepted)
    assert len({profile.fingerprint for profile in taken}) == len(taken), "a login is in two cells"
    rejected = [item for share in shares(discovery, count) for item in share.rejected]
    assert sorted(item.name for item in rejected) == sorted(item.name for item in discovery.rejected)


@given(before=logins, after=logins, count=counts)
def test_no_name_changes_its_cell_with_what_else_is_there(
    folder: Path, before: dict[str, str], after: dict[str, str], count: int
) -> None:
    """So that two cells that see different sets for a moment never run the same name."""
    old, new = (select_profiles(examined(folder, owners), NOW) for owners in (before, after))
    for index, old_share in enumerate(shares(old, count)):
        for other, new_share in enumerate(shares(new, count)):
            both = {profile.name for profile in old_share.accepted} & {profile.name for profile in new_share.accepted}
            assert index == other or not both


def test_a_rotated_or_saved_anew_login_stays_where_it_is(tmp_path: Path) -> None:
    def cells() -> list[list[str]]:
        discovery = select_profiles(examined(tmp_path, owners), NOW)
        return [[profile.name for profile in share.accepted] for share in shares(discovery, 3)]

    owners = {f"login-{number}": f"person {number}" for number in range(9)}
    before = cells()
    owners = {name: f"{owner}, again" for name, owner in owners.items()}
    assert cells() == before
    assert sum(map(len, before)) == 9


def test_shares_of_many_logins_are_of_about_the_same_size() -> None:
    sizes = [sum(Shard(index, 10).holds(f"login-{number}") for number in range(1000)) for index in range(10)]
    assert sum(sizes) == 1000
    assert min(sizes) > 70


def test_the_share_of_a_name_is_the_same_in_every_version() -> None:
    """Cells of two versions must agree; SHA-256 of the name, as a big-endian number, by the count."""
    assert [name for name in ("ada", "grace", "alan", "edsger") if Shard(1, 3).holds(name)] == ["grace"]
    assert Shard(0, 1).holds("ada")
    assert sum(Shard(index, MOST_SHARDS).holds("ada") for index in range(MOST_SHARDS)) == 1


def test_a_share_without_logins_is_no_error_but_an_empty_set_is(tmp_path: Path) -> None:
    (tmp_path / "ann.json").write_bytes(login("ann"))
    shard = next(Shard(index, 3) for index in range(3) if not Shard(index, 3).holds("ann"))
    hydrator = Hydrator(LocalProfileProvider(tmp_path), shard=shard)
    hydration = hydrator.hydrate()
    assert hydration.discovery.accepted == ()
    said = f"No login is in this cell's share, SHARD={shard}: the only usable login is in other shares."
    assert hydration.warnings == (said,)
    name = next(name for name in ("bob", "eve", "kim", "joe", "sue", "tom") if shard.holds(name))
    (tmp_path / f"{name}.json").write_bytes(login(name))
    again = hydrator.hydrate()
    assert ([profile.name for profile in again.discovery.accepted], again.warnings) == ([name], ())
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(NoUsableProfile):
        hydrator.hydrate()


def test_of_two_files_of_one_login_the_same_one_counts_in_every_cell(tmp_path: Path) -> None:
    """Decided before the shares are taken: else each of two cells would run the login under another name."""
    first, second = "ann", next(name for name in map("b{}".format, range(99)) if not same_share("ann", name, 2))
    found = examined(tmp_path, {first: "one", second: "one"})
    shared = [[profile.name for profile in share.accepted] for share in shares(select_profiles(found, NOW), 2)]
    assert sorted(shared) == [[], [first]]
    # What would come of it the other way round: both of them.
    apart = [[item for item in found if Shard(index, 2).holds(item.file_name[:-5])] for index in range(2)]
    assert [len(select_profiles(items, NOW).accepted) for items in apart] == [1, 1]


def same_share(one: str, other: str, count: int) -> bool:
    return all(Shard(index, count).holds(one) == Shard(index, count).holds(other) for index in range(count))

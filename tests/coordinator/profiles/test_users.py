"""Folders, links and files of other users: looked at by an unprivileged user, since root passes them idly."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from coordinator.profiles.errors import CacheError
from coordinator.profiles.folders import private_folder
from tests.coordinator.profiles.support.program import ROOT, failure
from tests.coordinator.profiles.support.states import login

if TYPE_CHECKING:
    from collections.abc import Iterator

AS_NOBODY = (sys.executable, "-m", "tests.coordinator.profiles.support.as_nobody")
# A user namespace with subordinate ids gives its creator as many users as a test needs.
AS_ROOT: tuple[str, ...] = () if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--map-auto")
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PROFILE_BACKEND": "s3",
    "AUTH_PROFILE_S3_BUCKET": "profiles",
    "AUTH_PROFILE_S3_PREFIX": "fleet",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
}
CANNOT = "s3://profiles/fleet/active/: cannot be kept in AUTH_PROFILE_CACHE_DIR: "


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder such as /tmp: everybody may make things in it."""
    folder = Path(tempfile.mkdtemp(prefix="common-"))
    folder.chmod(0o1777)
    done = subprocess.run([*AS_ROOT, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"this test needs root, or subordinate ids for {AS_ROOT[0]}: {done.stderr}")
    yield folder
    subprocess.run([*AS_ROOT, "rm", "-rf", str(folder)], check=True)


def nobody(scene: str, folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command as nobody in the folder, after the scene was set; the checkout may be where only root reads."""
    return subprocess.run(
        [*AS_ROOT, *AS_NOBODY, scene, str(folder), *arguments],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT), "AUTH_PROFILE_CACHE_DIR": str(folder / "auth_profiles"), **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_planted_link_is_not_followed(common: Path) -> None:
    code, line = failure(nobody("link_in_place_of_the_cache", common, "hydrate"))
    assert (code, line) == (
        6,
        f"{CANNOT}{common}/auth_profiles is a link that belongs to uid 1234; it is not followed",
    )
    assert list((common / "loot").iterdir()) == []


def test_planted_link_on_the_way_is_not_followed(common: Path) -> None:
    cache = common / "var" / "auth_profiles"
    done = nobody("link_on_the_way_to_the_cache", common, "hydrate", AUTH_PROFILE_CACHE_DIR=str(cache))
    assert failure(done) == (6, f"{CANNOT}{common}/var is a link that belongs to uid 1234; it is not followed")
    assert list((common / "loot").iterdir()) == []


@pytest.mark.parametrize(("scene", "uid"), [("folder_of_somebody_else", 1234), ("folder_of_root", 0)])
def test_folder_of_somebody_else_is_not_used(common: Path, scene: str, uid: int) -> None:
    code, line = failure(nobody(scene, common, "hydrate"))
    assert (code, line) == (
        6,
        (
            f"{CANNOT}the folder {common}/auth_profiles belongs to uid {uid}, not to uid 65534;"
            " name one in it that does not exist yet, or another place"
        ),
    )
    assert list((common / "auth_profiles").iterdir()) == []


def test_folder_that_cannot_be_entered(common: Path) -> None:
    cache = common / "closed" / "auth_profiles"
    done = nobody("folder_that_cannot_be_entered", common, "hydrate", AUTH_PROFILE_CACHE_DIR=str(cache))
    assert failure(done) == (6, f"{CANNOT}{cache} cannot be reached by uid 65534: Permission denied")


def test_folder_that_cannot_be_written(common: Path) -> None:
    cache = common / "readonly" / "auth_profiles"
    done = nobody("folder_that_cannot_be_written", common, "hydrate", AUTH_PROFILE_CACHE_DIR=str(cache))
    assert failure(done) == (6, f"{CANNOT}the folder {cache} cannot be made by uid 65534: Permission denied")


@pytest.fixture
def local(common: Path) -> Path:
    """Two profiles, one of which only its owner may read."""
    folder = common / "active"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "ann.json").write_bytes(login("ann"))
    (folder / "ann.json").chmod(0o644)
    (folder / "bob.json").write_bytes(login("bob"))
    (folder / "bob.json").chmod(0o600)
    return folder


def test_file_of_another_user_gets_a_message_with_the_uid_and_the_cure(common: Path, local: Path) -> None:
    more = {"PROFILE_BACKEND": "local", "LOCAL_PROFILE_DIR": str(local), "LOG_FORMAT": "json"}
    done = nobody("nothing", common, "hydrate", **more)
    assert done.returncode == 0
    assert '"reason": "cannot be read by uid 65534: it belongs to uid 0, mode 600; chown it to 65534"' in done.stderr
    assert '"accepted": 1' in done.stderr


def test_folder_of_profiles_that_only_another_user_may_read(common: Path, local: Path) -> None:
    local.chmod(0o700)
    done = nobody("nothing", common, "hydrate", PROFILE_BACKEND="local", LOCAL_PROFILE_DIR=str(local))
    code, line = failure(done)
    assert code == 8
    assert line.startswith(f"the profile folder {local} cannot be read by uid 65534; check its owner and mode;")


def test_key_file_of_another_user(common: Path, local: Path) -> None:
    key_file = common / "key.txt"
    key_file.write_text("first-key\n")
    key_file.chmod(0o600)
    more = {"PROFILE_BACKEND": "local", "LOCAL_PROFILE_DIR": str(local), "AUTH_KEY_FILE_PATH": str(key_file)}
    done = nobody("nothing", common, "hydrate", LOG_LEVEL="error", **more)
    code, line = failure(done)
    assert code == 7
    assert line.startswith(f"key file {key_file} cannot be read by uid 65534: Permission denied;")


@pytest.mark.parametrize("named", [False, True], ids=["nothing else", "another file"])
def test_default_key_file_that_cannot_be_seen(common: Path, local: Path, named: bool) -> None:
    (common / "auth_profiles").mkdir(mode=0o700)
    mine = common / "mine.txt"
    mine.write_text("first-key\n")
    mine.chmod(0o644)
    more = {"PROFILE_BACKEND": "local", "LOCAL_PROFILE_DIR": str(local), "LOG_LEVEL": "error"}
    if named:
        assert nobody("nothing", common, "hydrate", AUTH_KEY_FILE_PATH=str(mine), **more).returncode == 0
    else:
        assert failure(nobody("nothing", common, "hydrate", **more)) == (
            7,
            (
                "whether there is a key file auth_profiles/key.txt cannot be seen by uid 65534: Permission denied;"
                " check the folders on the way, or name another file"
            ),
        )


# What does not need another user


def test_link_of_our_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert private_folder(tmp_path / "link" / "cache", ()) == tmp_path / "real" / "cache"


def test_folder_of_our_own_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private_folder(tmp_path, ())
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "letters.txt").touch()
    with pytest.raises(CacheError, match=r"holds other things \(letters\.txt\)"):
        private_folder(tmp_path, ("lock",))
    assert tmp_path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.touch(), "is not a folder"),
        (lambda path: path.symlink_to(path), "is reached by too many links"),
    ],
    ids=["a file", "a link to itself"],
)
def test_what_is_not_a_folder_is_not_used(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "cache")  # type: ignore[operator]
    with pytest.raises(CacheError, match=message):
        private_folder(tmp_path / "cache", ())


def test_dots_on_the_way_are_resolved_as_the_kernel_does(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/b")
    assert private_folder(tmp_path / "link" / ".." / "cache", ()) == tmp_path / "a" / "cache"
    shutil.rmtree(tmp_path / "a")

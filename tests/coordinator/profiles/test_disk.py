"""A cache on a disk that is full."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.coordinator.profiles.support.program import failure, run
from tests.coordinator.profiles.support.states import login, origin, state

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.coordinator.profiles.support.bucket import Bucket

ROOT_OF_OUR_OWN = () if os.geteuid() == 0 else ("--user", "--map-root-user")
ENTER_OUR_OWN = () if os.geteuid() == 0 else ("--user", "--preserve-credentials")


@dataclass(frozen=True)
class SmallDisk:
    """A file system of 256 KiB that only programs run by `before` can see."""

    folder: Path
    before: tuple[str, ...]

    def names(self, path: str) -> list[str]:
        shown = subprocess.run(
            [*self.before, "ls", str(self.folder / path)], capture_output=True, text=True, check=True
        )
        return shown.stdout.split()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    script = f"mount -t tmpfs -o size=256k,mode=0700 tmpfs '{folder}' && echo ready && exec cat"
    with subprocess.Popen(
        ["unshare", *ROOT_OF_OUR_OWN, "--mount", "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        said = holder.stdout.readline()
        if said != "ready\n":
            pytest.fail(f"this test needs to mount a tmpfs, as root or in a user namespace: {said}")
        yield SmallDisk(folder, ("nsenter", "--target", str(holder.pid), *ENTER_OUR_OWN, "--mount"))
        assert holder.stdin is not None
        holder.stdin.close()


def test_full_disk_is_named_and_leaves_the_old_set(bucket: Bucket, small_disk: SmallDisk) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"first-key\n")
    environment = bucket.environment(small_disk.folder / "cache")
    assert run(["hydrate"], environment, before=small_disk.before).returncode == 0
    ballast = [{"name": "ballast", "value": "x" * 60_000}]
    bucket.put(
        **{f"user{n}": state(origins=[origin(origin=f"https://{n}.example", localStorage=ballast)]) for n in range(8)}
    )
    code, line = failure(run(["hydrate"], environment, before=small_disk.before))
    assert (code, line) == (
        6,
        (f"{bucket.uri}: cannot be kept in AUTH_PROFILE_CACHE_DIR ({small_disk.folder}/cache): no space is left there"),
    )
    assert small_disk.names("cache/current/active") == ["ann.json"]
    assert len(small_disk.names("cache/sets")) == 1
    bucket.remove(*(f"active/user{number}.json" for number in range(6)))
    assert run(["hydrate"], environment, before=small_disk.before).returncode == 0
    assert small_disk.names("cache/current/active") == ["ann.json", "user6.json", "user7.json"]

"""The cache folder of a remote backend: sets of files, one of them current, switched as a whole.

    AUTH_PROFILE_CACHE_DIR/       0700, ours
        lock                      held while hydrating
        in_use                    held by every process that runs on the current set
        current -> sets/ID        replaced atomically
        sets/ID/active/*.json     the profiles that may be used
        sets/ID/held/*.json       objects that were fetched and left out, so that they are not fetched again
        sets/ID/key.txt           if the backend has one
        sets/ID/fleet.toml        with FLEET_FILE=s3
        sets/ID/index.json        where each file came from, and what the checks found in it

A file in a set is never changed; sets share unchanged files as hard links.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import structlog
from pydantic_core import from_json, to_json

from contract.storage_state.summary import ProfileSummary
from coordinator.profiles.discover import CHECKS_VERSION
from coordinator.profiles.errors import CacheError
from coordinator.profiles.folders import private_folder, write_private

log = structlog.get_logger(__name__)
ACTIVE: Final = "active"
HELD: Final = "held"
KEY_FILE: Final = "key.txt"
FLEET_FILE: Final = "fleet.toml"
INDEX: Final = "index.json"
LOCK_TIMEOUT_S: Final = 120.0
_FORMAT: Final = 2
_OURS: Final = frozenset({"lock", "in_use", "current", "sets", "ca.pem", "lost+found"})


@dataclass(frozen=True)
class Entry:
    """One object of the backend and the file it became: `file` is relative to the set's folder.

    `state` is what the checks found in a valid profile; None: not known, or not a valid one.
    """

    etag: str
    size: int
    sha256: str
    file: str
    state: ProfileSummary | None = None


@dataclass(frozen=True)
class FileSet:
    """A set of files of one `source`; `entries` has them by the object's key."""

    folder: Path
    source: str
    entries: dict[str, Entry]

    @property
    def confirmed_at(self) -> float:
        """When the backend was last found to hold exactly this, in Unix seconds."""
        return (self.folder / INDEX).stat().st_mtime

    def confirm(self) -> None:
        """Note that the backend holds exactly this now."""
        os.utime(self.folder / INDEX)

    def intact(self) -> frozenset[str]:
        """Return the keys of the objects whose files are as they were fetched."""
        return frozenset(key for key in self.entries if self.read(key) is not None)

    def read(self, key: str) -> bytes | None:
        """Return the bytes of an object, None if they are not here as they were fetched."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        try:
            # Three system calls: at a warm start this is done for every profile.
            descriptor = os.open(f"{self.folder}/{entry.file}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.read(descriptor, entry.size + 1)
            finally:
                os.close(descriptor)
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == entry.sha256 else None


class Staging:
    """A set in the making. Nobody sees it until `Cache.publish`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        for path in (folder, folder / ACTIVE, folder / HELD):
            path.mkdir(mode=0o700)

    def store(self, file: str, data: bytes) -> None:
        """Write a file; safe from several threads for different files. Raises OSError."""
        write_private(f"{self.folder}/{file}", data)

    def adopt(self, old: FileSet, entry: Entry, file: str) -> None:
        """Take over an unchanged file of another set, in place of one that was stored. Raises OSError."""
        (self.folder / file).unlink(missing_ok=True)
        try:
            os.link(old.folder / entry.file, self.folder / file)
        except OSError:  # not every file system has links
            self.store(file, (old.folder / entry.file).read_bytes())

    def move(self, file: str, new: str) -> None:
        """Give a file its final place. Raises OSError."""
        (self.folder / file).rename(self.folder / new)


class Cache:
    """The cache folder, for one `source` such as ``s3://bucket/prefix/``."""

    def __init__(self, folder: Path, source: str) -> None:
        self._configured = folder
        self._source = source
        self._in_use: int | None = None
        self._settle(folder)

    def __str__(self) -> str:
        return str(self._root)

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """Hold the cache, alone among all processes. Raises CacheError."""
        self._settle(private_folder(self._configured, _OURS))
        lock = _open_lock(self._root / "lock")
        try:
            _wait_for_lock(lock, self._root)
            self._claim()
            self._sweep()
            yield self
        finally:
            os.close(lock)

    def current(self) -> FileSet | None:
        """Return the set that is in use, None if there is none from this source."""
        link = self._root / "current"
        try:
            folder = self._root / link.readlink()
            index = from_json((folder / INDEX).read_bytes())
            if (index["format"], index["source"]) != (_FORMAT, self._source):
                return None
            # Reading a thousand profiles again takes four times as long as listing their bucket.
            is_known = index["checks"] == CHECKS_VERSION
            entries = {
                key: Entry(etag, size, digest, file, ProfileSummary.from_json(state) if is_known and state else None)
                for key, (etag, size, digest, file, state) in index["entries"].items()
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return FileSet(folder, self._source, entries)

    def stage(self) -> Staging:
        """Begin a new set. Raises OSError."""
        return Staging(self._root / "sets" / secrets.token_hex(8))

    def publish(self, staging: Staging, entries: dict[str, Entry]) -> FileSet:
        """Make the new set the current one, in one step, and remove the others. Raises OSError."""
        index = {
            "format": _FORMAT,
            "source": self._source,
            "checks": CHECKS_VERSION,
            "entries": {
                key: [entry.etag, entry.size, entry.sha256, entry.file, entry.state and entry.state.to_json()]
                for key, entry in sorted(entries.items())
            },
        }
        write_private(staging.folder / INDEX, to_json(index))
        # rename(2) replaces a link in one step; symlink(2) does not.
        link = staging.folder / "link"
        link.symlink_to(staging.folder.relative_to(self._root))
        link.rename(self._root / "current")
        self._sweep()
        return FileSet(staging.folder, self._source, entries)

    def discard(self, staging: Staging) -> None:
        """Remove a set that was not published."""
        shutil.rmtree(staging.folder, ignore_errors=True)

    def close(self) -> None:
        """Let another source have the cache."""
        if self._in_use is not None:
            os.close(self._in_use)
            self._in_use = None

    def _settle(self, root: Path) -> None:
        self._root = root
        self.profiles_dir = root / "current" / ACTIVE
        """Where the current set's profiles are; the same path for ever."""
        self.key_file = root / "current" / KEY_FILE
        """Where the current set's key file is, if it has one; the same path for ever."""
        self.fleet_file = root / "current" / FLEET_FILE
        """Where the current set's fleet file is, if it has one."""

    def _claim(self) -> None:
        """Mark the cache as in use for this source until the process ends. Raises CacheError."""
        if self._in_use is None:
            self._in_use = _open_lock(self._root / "in_use")
        # Each process that runs on the cache holds the file shared until it ends, however it ends: whoever gets it
        # alone may write another source into it.
        mark = self._source.encode()
        if os.pread(self._in_use, 4096, 0) != mark:
            if not _try_lock(self._in_use, fcntl.LOCK_EX):
                self.close()
                raise CacheError(
                    f"the folder {self._root} is in use by a process with profiles from elsewhere; name another one"
                )
            os.ftruncate(self._in_use, 0)
            os.pwrite(self._in_use, mark, 0)
        fcntl.flock(self._in_use, fcntl.LOCK_SH)

    def _sweep(self) -> None:
        """Remove what a hydration that was cut off, or the one before, has left."""
        with suppress(FileNotFoundError):
            used = (self._root / "current").readlink().name
            for folder in (self._root / "sets").iterdir():
                if folder.name != used:
                    shutil.rmtree(folder, ignore_errors=True)


def is_full(error: OSError) -> bool:
    """Return whether a disk, its quota or its inodes are used up."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CacheError(f"{path} cannot be opened: {error.strerror}") from None


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for_lock(descriptor: int, root: Path) -> None:
    if _try_lock(descriptor, fcntl.LOCK_EX):
        return
    log.info("waiting_for_another_hydration", folder=str(root), at_most_s=LOCK_TIMEOUT_S)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while not _try_lock(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            raise CacheError(f"another process has been at work in {root} for {LOCK_TIMEOUT_S:.0f} seconds")
        time.sleep(0.05)

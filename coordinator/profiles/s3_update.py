"""One hydration into the cache: fetch what is new, then switch to a set that holds exactly what is used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from coordinator.profiles.cache import ACTIVE, FLEET_FILE, HELD, KEY_FILE, Cache, Entry, FileSet, Staging
from coordinator.profiles.model import Examined
from coordinator.profiles.s3_types import Fetched, S3Object


@dataclass(frozen=True)
class Obtained:
    """An object's file: in the new set if `fetched`, else in the old one. `refused` says why there is none."""

    key: str
    entry: Entry | None = None
    fetched: bool = False
    refused: str = ""


class Update:
    """A hydration under way, from the old set (None: there is none) to a new one."""

    def __init__(self, cache: Cache, old: FileSet | None) -> None:
        self._cache = cache
        self._old = old
        self.intact = old.intact() if old else frozenset()
        """The keys of the old set whose files are as they were fetched."""
        self._staging: Staging | None = None

    def unchanged(self, item: S3Object) -> Entry | None:
        """Return what the old set has of the object, None if it has to be fetched."""
        known = self._old.entries.get(item.key) if self._old and item.key in self.intact else None
        return known if known and item.etag and (known.etag, known.size) == (item.etag, item.size) else None

    def read(self, key: str) -> bytes:
        """Return what the old set has of an object; nothing where its file is not as it was fetched."""
        return (self._old and self._old.read(key)) or b""

    def store(self, key: str, answer: Fetched, file: str, examined: Examined | None = None) -> Obtained:
        """Put what S3 gave for an object into the new set, as `file` with what was found in it. Raises OSError."""
        if answer.refused:
            return Obtained(key, refused=answer.refused)
        self._stage().store(file, answer.data)
        state = examined.state if examined else None
        # What is valid has been hashed already.
        digest = examined.sha256 if examined and state else hashlib.sha256(answer.data).hexdigest()
        return Obtained(key, Entry(answer.etag, len(answer.data), digest, file, state), fetched=True)

    def keep(self, key: str) -> Obtained | None:
        """Take an object from the old set although S3 has no such object any more."""
        known = self._old.entries.get(key) if self._old else None
        return Obtained(key, replace(known, etag="")) if known else None

    def path(self, obtained: Obtained) -> Path:
        """Return where the file is now."""
        folder = self._stage().folder if obtained.fetched or self._old is None else self._old.folder
        return folder / (obtained.entry.file if obtained.entry else "")

    def finish(self, everything: Iterable[Obtained], accepted: frozenset[str]) -> bool:
        """Make what was obtained the current set, with the profiles named in `accepted` as active.

        Returns whether anything changed. Raises OSError.
        """
        placed = []
        for item in everything:
            if item.entry:
                name = item.entry.file.rpartition("/")[2]
                is_profile = item.entry.file not in (KEY_FILE, FLEET_FILE)
                file = f"{ACTIVE if name in accepted else HELD}/{name}" if is_profile else name
                placed.append((item, item.entry, file))
        entries = {item.key: entry if entry.file == file else replace(entry, file=file) for item, entry, file in placed}
        if self._old and self._old.entries == entries and not any(item.fetched for item, _, _ in placed):
            self._old.confirm()
            return False
        staging = self._stage()
        for item, entry, file in placed:
            if not item.fetched and self._old:
                staging.adopt(self._old, entry, file)
            elif entry.file != file:
                staging.move(entry.file, file)
        self._cache.publish(staging, entries)
        self._staging = None
        return True

    def abandon(self) -> None:
        """Leave the old set as it is; without effect after `finish`."""
        if self._staging:
            self._cache.discard(self._staging)

    def _stage(self) -> Staging:
        self._staging = self._staging or self._cache.stage()
        return self._staging

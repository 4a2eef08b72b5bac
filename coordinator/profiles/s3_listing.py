"""What a bucket holds for us: ``<prefix>/active/*.json`` and ``<prefix>/key.txt``, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from contract.errors import BadProfile
from contract.storage_state.document import MAX_PROFILE_BYTES, TOO_LARGE
from coordinator.profiles.discover import SUFFIX, check_name
from coordinator.profiles.model import Examined
from coordinator.profiles.s3_types import S3Location, S3Object


class Lister(Protocol):
    """The part of `S3Client` that is needed here."""

    def list_folder(self, prefix: str) -> tuple[list[S3Object], list[str]]:
        """Return the objects directly under a prefix, and the prefixes of those further down."""

    def find(self, key: str) -> S3Object | None:
        """Find one object by a listing."""


@dataclass(frozen=True)
class Listing:
    """What may be fetched, and what is left out unseen, by its name or size."""

    profiles: tuple[S3Object, ...]
    left_out: tuple[Examined, ...]
    key_file: S3Object | None


def list_bucket(bucket: Lister, location: S3Location) -> Listing:
    """List what may be profiles, and the key file. Raises S3Refused, S3Unreachable."""
    active = location.active
    found, below = bucket.list_folder(active)
    profiles: list[S3Object] = []
    left_out = [
        Examined(
            folder.removeprefix(active), Path(), reason="is a folder; only objects directly under active/ are read"
        )
        for folder in below
    ]
    for item in found:
        name = item.key.removeprefix(active)
        if not name.lower().endswith(SUFFIX):
            continue
        try:
            check_name(name)
        except BadProfile as error:
            left_out.append(Examined(name, Path(), reason=error.reason))
            continue
        if item.size > MAX_PROFILE_BYTES:
            left_out.append(Examined(name, Path(), reason=TOO_LARGE))
        else:
            profiles.append(item)
    return Listing(tuple(profiles), tuple(left_out), bucket.find(location.key_file))

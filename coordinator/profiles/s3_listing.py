"""What a bucket holds for us: ``PREFIX/active/*.json``, ``PREFIX/key.txt``, ``PREFIX/fleet.toml`` where asked for."""

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
    fleet_file: S3Object | None = None


def list_bucket(bucket: Lister, location: S3Location, *, with_fleet_file: bool = False) -> Listing:
    """List what may be profiles, the key file and, where asked for, the fleet file. Raises S3Refused, S3Unreachable."""
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
    fleet_file = bucket.find(location.fleet_file) if with_fleet_file else None
    return Listing(tuple(profiles), tuple(left_out), bucket.find(location.key_file), fleet_file)

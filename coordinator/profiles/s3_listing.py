"""What a bucket holds for us: ``<prefix>/active/*.json`` and ``<prefix>/key.txt``, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from contract.errors import BadProfile
from contract.storage_state.document import MAX_PROFILE_BYTES, TOO_LARGE
from coordinator.profiles.discover import SUFFIX, Examined, check_name

if TYPE_CHECKING:
    from coordinator.profiles.s3_bucket import S3Object
    from coordinator.profiles.s3_place import S3Place

_ARCHIVED: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})


class Lister(Protocol):
    """The part of `S3Bucket` that is needed here."""

    def list_folder(self, prefix: str) -> tuple[list[S3Object], list[str]]: ...

    def find(self, key: str) -> S3Object | None: ...


@dataclass(frozen=True)
class Listing:
    """What may be fetched, and what is left out unseen, by its name, size or storage class."""

    profiles: tuple[S3Object, ...]
    left_out: tuple[Examined, ...]
    key_file: S3Object | None


def take_stock(bucket: Lister, place: S3Place) -> Listing:
    """List the bucket. Raises S3Refused, S3Unreachable."""
    active = place.active
    found, below = bucket.list_folder(active)
    key_file = bucket.find(place.key_file)
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
            _check(name, item)
        except BadProfile as error:
            left_out.append(Examined(name, Path(), reason=error.reason))
        else:
            profiles.append(item)
    return Listing(tuple(profiles), tuple(left_out), key_file)


def _check(name: str, item: S3Object) -> None:
    check_name(name)
    if item.size > MAX_PROFILE_BYTES:
        raise BadProfile(TOO_LARGE)
    if item.storage_class in _ARCHIVED:
        raise BadProfile(f"is archived ({item.storage_class}); restore it to a storage class that can be read at once")

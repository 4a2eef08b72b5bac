"""Image uploads of the demo site: uploaded first, then referred to by id in a submission."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MAX_KEPT = 10_000


@dataclass(frozen=True)
class ImageRecord:
    """An upload: its media type, its size in bytes, and the SHA-256 of its bytes as 64 hex digits."""

    type: str
    bytes: int
    sha256: str


class Images:
    """The last MAX_KEPT uploads and their owners; the image bytes are not kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, ImageRecord]] = OrderedDict()

    def add(self, account: str, media_type: str, data: bytes) -> tuple[str, ImageRecord]:
        """Record an upload. Return its id and its record."""
        image_id = secrets.token_hex(16)
        record = ImageRecord(media_type, len(data), hashlib.sha256(data).hexdigest())
        self._kept[image_id] = (account, record)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return image_id, record

    def find(self, account: str, ids: Sequence[str]) -> tuple[ImageRecord, ...]:
        """Return the account's uploads with these ids, in this order. Raise KeyError for an id it does not own."""
        found = [self._kept[image_id] for image_id in ids]
        if any(owner != account for owner, _ in found):
            raise KeyError(account)
        return tuple(record for _, record in found)

"""Images that go with a prompt: uploaded on their own, named by an id in the submission."""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Sequence

from demo.ledger import ImageNote

TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MAX_KEPT = 10_000


class Images:
    """What was uploaded, by whom; the bytes themselves are not kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, ImageNote]] = OrderedDict()

    def add(self, account: str, media_type: str, data: bytes) -> tuple[str, ImageNote]:
        """Note an upload. Returns its id and what is kept of it."""
        image_id = secrets.token_hex(16)
        note = ImageNote(media_type, len(data), hashlib.sha256(data).hexdigest())
        self._kept[image_id] = (account, note)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return image_id, note

    def find(self, account: str, ids: Sequence[str]) -> tuple[ImageNote, ...]:
        """Return the account's uploads of these ids, in their order. Raises KeyError for any other id."""
        found = [self._kept[image_id] for image_id in ids]
        if any(owner != account for owner, _ in found):
            raise KeyError(account)
        return tuple(note for _, note in found)

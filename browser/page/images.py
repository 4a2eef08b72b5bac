"""Images that go with a prompt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

MediaType = Literal["image/png", "image/jpeg", "image/gif", "image/webp"]

# Playwright gives files to a page in one message, and refuses more than 50 MB.
MAX_IMAGE_BYTES_IN_ALL = 50_000_000


@dataclass(frozen=True)
class Image:
    """One image as a client sent it."""

    media_type: MediaType
    data: bytes = field(repr=False)

    @property
    def suffix(self) -> str:
        """How the name of a file with it ends, without a dot."""
        return self.media_type.removeprefix("image/")


@dataclass(frozen=True)
class ImageLimits:
    """What a page takes in one prompt; `max_bytes` is for each image."""

    max_count: int
    max_bytes: int

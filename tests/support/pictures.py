"""Images for prompts: small real files of each type that pages take, each with bytes of its own."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

from browser.page.images import Image, MediaType
from tests.support import png

# The smallest pictures of one pixel in each format; decoders read what follows their end as nothing.
_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////"
    "////////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)
_GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
_WEBP = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")


def image(media_type: MediaType = "image/png", *, mark: bytes = b"", size: int = 8) -> Image:
    """An image that a browser shows; `mark` stands in its bytes as it is, `size` is a PNG's width and height."""
    if media_type == "image/png":
        data = png.make(size, size)
        text = b"Comment\0" + mark
        chunk = struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", zlib.crc32(b"tEXt" + text))
        return Image(media_type, data[:-12] + chunk + data[-12:])
    return Image(media_type, {"image/jpeg": _JPEG, "image/gif": _GIF, "image/webp": _WEBP}[media_type] + mark)


def data_url(picture: Image) -> str:
    return f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}"


def part(picture: Image) -> dict[str, Any]:
    """The image as a part of an OpenAI message."""
    return {"type": "image_url", "image_url": {"url": data_url(picture)}}

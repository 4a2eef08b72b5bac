"""The images of a chat request: read from data URLs, checked, and nothing fetched.

Wire format: https://platform.openai.com/docs/guides/images-vision (`image_url` parts);
data URLs: https://www.rfc-editor.org/rfc/rfc2397
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

from api_utils.chat_request import Message, Part
from browser.page.images import MAX_IMAGE_BYTES_IN_ALL, Image, ImageLimits, MediaType
from contract.api_error import ApiError, bad_request, unsupported

_TYPES: Final[dict[str, MediaType]] = {
    "image/png": "image/png",
    "image/jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",  # no registered type, but often written
    "image/gif": "image/gif",
    "image/webp": "image/webp",
}
_TAKEN: Final = "PNG, JPEG, GIF and WebP"


def images_of(messages: Sequence[Message], limits: ImageLimits | None) -> tuple[Image, ...]:
    """Return the images of a conversation, in order. Raises ApiError (400) that names the part at fault."""
    found = [
        (f"messages[{number}].content[{index}]", part)
        for number, message in enumerate(messages)
        for index, part in enumerate(message.content if isinstance(message.content, list) else ())
        if part.type == "image_url"
    ]
    if not found:
        return ()
    first = found[0][0]
    if limits is None:
        raise unsupported(first, "this page takes no images")
    if len(found) > limits.max_count:
        over = found[limits.max_count][0]
        raise bad_request(f"{over}: this page takes at most {limits.max_count} images with a prompt", param=over)
    images = tuple(_image(f"{name}.image_url", part, limits) for name, part in found)
    if sum(len(image.data) for image in images) > MAX_IMAGE_BYTES_IN_ALL:
        raise bad_request(f"the images are larger than {MAX_IMAGE_BYTES_IN_ALL} bytes together", param=first)
    return images


def _image(name: str, part: Part, limits: ImageLimits) -> Image:
    given: Any = (part.model_extra or {}).get("image_url")
    url = given.get("url") if isinstance(given, dict) else None
    if not isinstance(url, str):
        raise _bad(name, 'must be an object such as {"url": "data:image/png;base64,..."}')
    media_type, data = _read_data_url(f"{name}.url", url, limits.max_bytes)
    return Image(media_type, data)


def _read_data_url(name: str, url: str, max_bytes: int) -> tuple[MediaType, bytes]:
    scheme, _, rest = url.partition(":")
    if scheme.lower() in ("http", "https"):
        raise _bad(name, "images are not fetched from addresses here; send the image itself, as a data: URL")
    head, comma, encoded = rest.partition(",")
    kind, *parameters = (word.strip().lower() for word in head.split(";"))
    if scheme.lower() != "data" or not comma or parameters[-1:] != ["base64"]:
        raise _bad(name, "must be a data URL such as data:image/png;base64,...")
    media_type = _TYPES.get(kind)
    if media_type is None:
        raise _bad(name, f"{_TAKEN} images are taken, not {kind[:40]!r}")
    return media_type, _decode(name, media_type, encoded, max_bytes)


def _decode(name: str, media_type: MediaType, encoded: str, max_bytes: int) -> bytes:
    if len(encoded) * 3 // 4 > max_bytes + 2:  # up to two bytes of these are padding
        raise _bad(name, f"this page takes images of at most {max_bytes} bytes")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _bad(name, "what follows the comma is not valid base64") from None
    if len(data) > max_bytes:
        raise _bad(name, f"this page takes images of at most {max_bytes} bytes, not {len(data)}")
    if _type_of(data) != media_type:
        raise _bad(name, f"the data is not what its type says, {media_type}")
    return data


def _type_of(data: bytes) -> MediaType | None:
    """Return what the first bytes say; https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:14] == b"WEBPVP":
        return "image/webp"
    return None


def _bad(name: str, problem: str) -> ApiError:
    return bad_request(f"{name}: {problem}", param=name)

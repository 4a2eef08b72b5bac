"""What a page is asked: one text, the only thing that can be typed into a chat page, with its images.

A lone user message is typed as it is. Anything longer is written out in order, each message under a
line that names who speaks, a blank line between them::

    System:
    You answer in one sentence.

    User:
    What is a quay?

`developer` counts as `system`; a message's `name` follows its role in round brackets. The text of
several parts is joined by line breaks; `[image 1]` stands where the first image belongs, and so on. A lone user
message needs no such marks. The form is part of the API: callers may rely on it.

Images are read from data URLs (https://www.rfc-editor.org/rfc/rfc2397) in `image_url` parts
(https://platform.openai.com/docs/guides/images-vision); nothing is fetched.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from api_utils.answer_cut import AnswerLimits
from api_utils.chat_request import Message
from browser.page.images import MAX_IMAGE_BYTES_IN_ALL, Image, ImageLimits, MediaType
from contract.api_error import ApiError, bad_request, unsupported

_SPEAKER = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}
_TYPES: Final[dict[str, MediaType]] = {
    "image/png": "image/png",
    "image/jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",  # no registered type, but often written
    "image/gif": "image/gif",
    "image/webp": "image/webp",
}
_TAKEN: Final = "PNG, JPEG, GIF and WebP"


@dataclass(frozen=True)
class Prompt:
    """One request as the page gets it, whatever the dialect it came in."""

    request_id: str
    model: str
    text: str = field(repr=False)
    images: tuple[Image, ...] = field(repr=False)
    limits: AnswerLimits = field(default=AnswerLimits())


def text_of(messages: Sequence[Message]) -> str:
    """Return the text to type for a conversation. Raises ApiError (400) when there is nothing to say."""
    if not any(text.strip() for message in messages for text in _texts(message, None)):
        raise bad_request("messages hold no text", param="messages")
    if len(messages) == 1 and messages[0].role == "user":
        return "\n".join(_texts(messages[0], None))
    marks = (f"[image {number}]" for number in count(1))
    written = []
    for message in messages:
        name = f" ({message.name})" if message.name else ""
        written.append(f"{_SPEAKER[message.role]}{name}:\n" + "\n".join(_texts(message, marks)))
    return "\n\n".join(written)


def _texts(message: Message, marks: Iterator[str] | None) -> list[str]:
    """Return a message's text, part by part; a mark stands for each image, or nothing where there are no marks."""
    if not isinstance(message.content, list):
        return [message.content or ""]
    texts = []
    for part in message.content:
        if part.type != "image_url":
            texts.append(part.text or "")
        elif marks is not None:
            texts.append(next(marks))
    return texts


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
    images = []
    for name, part in found:
        given: Any = (part.model_extra or {}).get("image_url")
        url = given.get("url") if isinstance(given, dict) else None
        if not isinstance(url, str):
            raise _bad(f"{name}.image_url", 'must be an object such as {"url": "data:image/png;base64,..."}')
        images.append(Image(*_read_data_url(f"{name}.image_url.url", url, limits.max_bytes)))
    if sum(len(image.data) for image in images) > MAX_IMAGE_BYTES_IN_ALL:
        raise bad_request(f"the images are larger than {MAX_IMAGE_BYTES_IN_ALL} bytes together", param=first)
    return tuple(images)


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
    return media_type, data


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

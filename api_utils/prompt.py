"""What a page is asked: one text, the only thing that can be typed into a chat page, with its images.

A lone user message is typed as it is. Anything longer is written out in order, each message under a
line that names who speaks, a blank line between them::

    System:
    You answer in one sentence.

    User:
    What is a quay?

`developer` counts as `system`; a message's `name` follows its role in round brackets, for `tool` and `function` the
tool's name. An assistant's earlier calls are written as `api_utils.tools` has the page write them. The text of
several parts is joined by line breaks; `[image 1]` stands where the first image belongs, and so on. A lone user
message needs no such marks, unless it has no words. The form is part of the API: callers may rely on it.

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
from api_utils.conversation import Message, Part
from api_utils.json_answer import JsonFormat
from api_utils.prompt_form import DEFAULT_FORM, PromptForm
from api_utils.tools import ToolUse, write_call
from browser.page.images import MAX_IMAGE_BYTES_IN_ALL, Image, ImageLimits, MediaType
from contract.api_error import ApiError, bad_request, unsupported

_SPEAKER: Final = {
    "system": "System",
    "developer": "System",
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
    "function": "Tool",
}
_TAKEN: Final = "PNG, JPEG, GIF and WebP"


@dataclass(frozen=True)
class Prompt:
    """One request as the page gets it, whatever the dialect it came in."""

    request_id: str
    model: str
    text: str = field(repr=False)
    images: tuple[Image, ...] = field(repr=False)
    limits: AnswerLimits = field(default_factory=AnswerLimits)
    tool_use: ToolUse | None = None
    json_format: JsonFormat | None = None
    form: PromptForm = DEFAULT_FORM


def text_of(
    messages: Sequence[Message],
    tool_use: ToolUse | None = None,
    json_format: JsonFormat | None = None,
    form: PromptForm = DEFAULT_FORM,
) -> str:
    """Return the text to type for a conversation. Raises ApiError (400) when there is nothing to say."""
    has_words = any(text.strip() for message in messages for text in _texts(message, None, form))
    if not has_words and not any(True for message in messages for _ in _images(message)):
        raise bad_request("messages hold neither text nor an image", param="messages")
    marks = (f"[image {number}]" for number in count(1))
    if len(messages) == 1 and messages[0].role == "user" and not (tool_use or json_format):
        # A page takes no empty prompt: where there are images alone, their marks are the text.
        return "\n".join(_texts(messages[0], None if has_words else marks, form))
    written = [f"Tools:\n{tool_use.instructions(form)}"] if tool_use else []
    if json_format:
        written.append(f"Format:\n{json_format.instructions(form)}")
    called: dict[str, str] = {}
    for message in messages:
        called |= {call.id: call.function.name for call in message.calls if call.id}
        # A tool's result is named after the tool, by the call that it answers.
        name = message.name or called.get(message.tool_call_id or "")
        speaker = f"{_SPEAKER[message.role]} ({name})" if name else _SPEAKER[message.role]
        written.append(f"{speaker}:\n" + "\n".join(_texts(message, marks, form)))
    return "\n\n".join(written)


def _texts(message: Message, marks: Iterator[str] | None, form: PromptForm) -> list[str]:
    """Return a message's text, part by part, and its calls; a mark stands for each image, if there are marks."""
    texts = []
    for part in message.content if isinstance(message.content, list) else ():
        if part.type == "refusal":
            texts.append(part.refusal or "")
        elif part.type != "image_url":
            texts.append(part.text or "")
        elif marks is not None:
            texts.append(next(marks))
    if isinstance(message.content, str):
        texts.append(message.content)
    if message.refusal:
        texts.append(message.refusal)
    texts += [write_call(call.function.name, call.function.arguments, form) for call in message.calls]
    return texts or [""]


def _images(message: Message) -> Iterator[tuple[int, Part]]:
    parts = message.content if isinstance(message.content, list) else ()
    return ((index, part) for index, part in enumerate(parts) if part.type == "image_url")


def images_of(messages: Sequence[Message], limits: ImageLimits | None) -> tuple[Image, ...]:
    """Return the images of a conversation, in order. Raises ApiError (400) that names the part at fault."""
    found = [
        (part.place or f"messages[{number}].content[{index}]", part)
        for number, message in enumerate(messages)
        for index, part in _images(message)
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
        url = given.get("url") if isinstance(given, dict) else given
        if not isinstance(url, str):
            raise _bad(f"{name}.image_url", 'must be an object such as {"url": "data:image/png;base64,..."}')
        images.append(Image(*_read_data_url(part.place or f"{name}.image_url.url", url, limits.max_bytes)))
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
    if len(encoded) * 3 // 4 > max_bytes + 2:  # up to two bytes of these are padding
        raise _bad(name, f"this page takes images of at most {max_bytes} bytes")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _bad(name, "what follows the comma is not valid base64") from None
    if len(data) > max_bytes:
        raise _bad(name, f"this page takes images of at most {max_bytes} bytes, not {len(data)}")
    # Clients often label what they send wrongly, and a browser goes by the bytes too.
    media_type = _type_of(data)
    if media_type is None:
        raise _bad(name, f"{_TAKEN} images are taken, and the data is none of these, whatever its label {kind[:40]!r}")
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

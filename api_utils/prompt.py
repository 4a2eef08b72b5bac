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
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from api_utils.chat_request import Message
from browser.page.images import Image
from contract.api_error import bad_request

_SPEAKER = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}


@dataclass(frozen=True)
class Prompt:
    """One request as the page gets it, whatever the dialect it came in."""

    request_id: str
    model: str
    text: str = field(repr=False)
    images: tuple[Image, ...] = field(repr=False)


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

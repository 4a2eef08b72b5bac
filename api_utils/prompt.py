"""One prompt out of a conversation: the only thing that can be typed into a chat page.

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
from itertools import count

from api_utils.chat_request import Message
from contract.api_error import bad_request

_SPEAKER = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}


def prompt_of(messages: Sequence[Message]) -> str:
    """The text to type. Raises ApiError (400) when there is nothing to say."""
    if not any(text.strip() for message in messages for text in _texts(message, None)):
        raise bad_request("messages hold no text", param="messages")
    if len(messages) == 1 and messages[0].role == "user":
        return "\n".join(_texts(messages[0], None))
    marks = (f"[image {number}]" for number in count(1))
    return "\n\n".join(f"{_heading(message)}:\n" + "\n".join(_texts(message, marks)) for message in messages)


def _texts(message: Message, marks: Iterator[str] | None) -> list[str]:
    """A message's text, part by part; a mark stands for each image, or nothing where there are no marks."""
    if not isinstance(message.content, list):
        return [message.content or ""]
    texts = []
    for part in message.content:
        if part.type != "image_url":
            texts.append(part.text or "")
        elif marks is not None:
            texts.append(next(marks))
    return texts


def _heading(message: Message) -> str:
    speaker = _SPEAKER[message.role]
    return f"{speaker} ({message.name})" if message.name else speaker

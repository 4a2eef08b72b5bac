"""One prompt out of a conversation: the only thing that can be typed into a chat page.

A lone user message is typed as it is. Anything longer is written out in order, each message under a
line that names who speaks, a blank line between them::

    System:
    You answer in one sentence.

    User:
    What is a quay?

`developer` counts as `system`; a message's `name` follows its role in round brackets. The text of
several parts is joined by line breaks. The form is part of the API: callers may rely on it.
"""

from __future__ import annotations

from collections.abc import Sequence

from api_utils.chat_request import Message
from api_utils.errors import bad_request

_SPEAKER = {"system": "System", "developer": "System", "user": "User", "assistant": "Assistant"}


def prompt_of(messages: Sequence[Message]) -> str:
    """The text to type. Raises ApiError (400) when there is nothing to say."""
    spoken = [(message, text_of(message)) for message in messages]
    if not any(text.strip() for _, text in spoken):
        raise bad_request("messages hold no text", param="messages")
    if len(spoken) == 1 and spoken[0][0].role == "user":
        return spoken[0][1]
    return "\n\n".join(f"{_heading(message)}:\n{text}" for message, text in spoken)


def text_of(message: Message) -> str:
    """A message's text, its parts joined by line breaks."""
    if message.content is None:
        return ""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text or "" for part in message.content)


def _heading(message: Message) -> str:
    speaker = _SPEAKER[message.role]
    return f"{speaker} ({message.name})" if message.name else speaker

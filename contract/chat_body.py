"""What both programs refuse of a chat request's body before they look closer."""

from __future__ import annotations

from typing import Any, Final

from contract.api_error import bad_request

MOST_MESSAGES: Final = 4096
"""Of one request. A conversation of that length fits no page; to look into each of millions takes gigabytes."""
MOST_PARTS: Final = 4096
"""Of all messages of one request together."""


def longest_s(idle_s: float) -> float:
    """Return how many seconds a body that always moves gets, where a pause gets idle_s: 10 MiB at 35 kB a second."""
    return 5 * idle_s


def check_amount(messages: list[Any], name: str = "messages") -> None:
    """Raise ApiError (400) for more messages, or more parts in them, than any page could be given."""
    if len(messages) > MOST_MESSAGES:
        raise bad_request(f"{name} has more than {MOST_MESSAGES} entries.", param=name)
    parts = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        parts += len(content) if isinstance(content, list) else 0
    if parts > MOST_PARTS:
        raise bad_request(f"{name} has more than {MOST_PARTS} parts together.", param=name)

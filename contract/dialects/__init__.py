"""The API dialects that are served, by the path of their route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.dialects.chat import CHAT
from contract.dialects.dialect import Dialect
from contract.dialects.responses import RESPONSES

DIALECTS: Final[Mapping[str, Dialect]] = {
    CHAT.path: CHAT,
    RESPONSES.path: RESPONSES,
}


def dialect_of(path: str) -> Dialect:
    """Return the dialect of a route; OpenAI's for a path that asks no page."""
    return DIALECTS.get(path, CHAT)

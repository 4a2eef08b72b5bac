"""The API dialects that are served, by the path of their route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.dialects.chat import CHAT
from contract.dialects.completions import COMPLETIONS
from contract.dialects.dialect import Dialect
from contract.dialects.messages import MESSAGES
from contract.dialects.responses import RESPONSES

DIALECTS: Final[Mapping[str, Dialect]] = {
    CHAT.path: CHAT,
    COMPLETIONS.path: COMPLETIONS,
    MESSAGES.path: MESSAGES,
    RESPONSES.path: RESPONSES,
}


def dialect_of(path: str) -> Dialect:
    """Return the dialect of a route, or of the one above it; OpenAI's chat for a path of none."""
    return DIALECTS.get(path) or DIALECTS.get(path.rpartition("/")[0], CHAT)

"""How requests of each API dialect are parsed: one module a dialect, which also writes its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from api_utils.dialects.chat import parse_chat_request
from api_utils.dialects.completions import parse_completion_request
from api_utils.dialects.messages import parse_messages_request
from api_utils.dialects.page_request import PageRequest
from api_utils.dialects.responses import parse_responses_request
from contract.dialects.chat import CHAT
from contract.dialects.completions import COMPLETIONS
from contract.dialects.messages import MESSAGES
from contract.dialects.responses import RESPONSES

PARSERS: Final[Mapping[str, Callable[[Any], PageRequest]]] = {
    CHAT.path: parse_chat_request,
    COMPLETIONS.path: parse_completion_request,
    MESSAGES.path: parse_messages_request,
    RESPONSES.path: parse_responses_request,
}
"""By the path of a dialect's route. Each takes the decoded body, and raises ApiError (400) naming what is at fault."""

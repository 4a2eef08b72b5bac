"""How an API dialect writes an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from api_utils.answer_cut import AnswerEnd
from api_utils.tools import ToolCall


class AnswerFormat(Protocol):
    """How one API dialect writes an answer."""

    @property
    def headers(self) -> dict[str, str]:
        """Return what the response's head says of the answer."""

    def whole(self, text: str, calls: Sequence[ToolCall], end: AnswerEnd, reasoning: str = "") -> bytes:
        """Return the answer as one JSON body. `reasoning` is what the page showed of it, apart from the text."""

    def begin(self) -> bytes:
        """Return the events that come before the first piece of text."""

    def piece(self, text: str) -> bytes:
        """Return the events for the next piece of text."""

    def reasoning(self, text: str) -> bytes:
        """Return the events for the next piece of the reasoning, which comes before the text or between it."""

    def tool_call(self, index: int, call: ToolCall) -> bytes:
        """Return the events for the next call of a tool."""

    def end(self, end: AnswerEnd) -> bytes:
        """Return the events after the last piece of a complete answer."""

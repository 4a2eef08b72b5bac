"""What every dialect makes of a request: the conversation that the page is to continue, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from api_utils.answer_cut import AnswerLimits
from api_utils.answer_format import AnswerFormat
from api_utils.conversation import Message
from api_utils.json_answer import JsonFormat
from api_utils.tools import ToolUse


class PageRequest(Protocol):
    """A request of any dialect. Its properties raise ApiError (400) for what a page cannot be given."""

    @property
    def model(self) -> str:
        """Return which model is asked."""

    @property
    def messages(self) -> Sequence[Message]:
        """Return the conversation."""

    @property
    def stream(self) -> bool | None:
        """Return whether the answer is to be streamed."""

    @property
    def limits(self) -> AnswerLimits:
        """Return where the answer ends at the latest."""

    @property
    def tool_use(self) -> ToolUse | None:
        """Return the tools that the page is told of."""

    @property
    def json_format(self) -> JsonFormat | None:
        """Return what JSON the answer is to be."""

    def answer_format(self, request_id: str, *, prompt_tokens: int | None) -> AnswerFormat:
        """Return how the answer is written; `prompt_tokens` is an estimate, None where no tokens are to be told."""

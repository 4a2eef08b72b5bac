"""OpenAI's Responses: https://platform.openai.com/docs/api-reference/responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from contract.api_error import ApiError, sse, to_json
from contract.dialects.dialect import Dialect

EARLIER_FIELD: Final = "tabfleet_earlier"
"""In which a coordinator hands a child the items that come before `input`, those of `previous_response_id`."""


@dataclass(frozen=True)
class ResponsesDialect(Dialect):
    """The Responses dialect: an error within a stream is an event of its own type."""

    def error_event(self, error: ApiError) -> bytes:
        """Return the error as the last event, which clients take for the end of the stream.

        https://platform.openai.com/docs/api-reference/responses-streaming/error has its fields at the top; OpenAI's
        own clients raise only for an `error` object, which others look into as well. Nobody here counts a stream's
        events, so that `sequence_number` is 0: no client goes by that of an error.
        """
        fields = {"code": error.code, "message": error.message, "param": error.param}
        nested = {"type": error.type, **fields}
        return sse(to_json({"type": "error", **fields, "sequence_number": 0, "error": nested}), "error")


RESPONSES: Final = ResponsesDialect("/v1/responses", conversation="input", may_be_text=True)

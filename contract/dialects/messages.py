"""Anthropic's Messages: https://docs.claude.com/en/api/messages, errors: https://docs.claude.com/en/api/errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contract.api_error import ApiError, sse, to_json
from contract.dialects.dialect import Dialect

_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",  # Anthropic's own status for it, 529, is in no standard
    504: "timeout_error",
}
"""`error.type` by status; other statuses of the client's have `invalid_request_error`, of the server's `api_error`."""


class MessagesDialect(Dialect):
    """Writes errors in Anthropic's form; `param` and `code` are Tabfleet's own, and stand beside what Anthropic has."""

    def error_body(self, error: ApiError) -> bytes:
        """Return the error as a JSON body."""
        kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
        shown = {"type": kind, "message": error.message, "param": error.param, "code": error.code}
        return to_json({"type": "error", "error": shown})

    def error_event(self, error: ApiError) -> bytes:
        """Return the error as the last server-sent event of a stream."""
        return sse(self.error_body(error), "error")


MESSAGES: Final = MessagesDialect("/v1/messages", conversation="messages")
COUNT_TOKENS_PATH: Final = f"{MESSAGES.path}/count_tokens"
"""The route that estimates a request's tokens without asking a page.

https://docs.claude.com/en/api/messages-count-tokens
"""

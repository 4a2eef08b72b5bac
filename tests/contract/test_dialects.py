"""Errors in each dialect's form: what a client of the dialect reads, and what the proxy reads of a child's."""

from __future__ import annotations

import json

import pytest

from contract.api_error import ApiError, ErrorCode, code_of, is_error_event
from contract.dialects import DIALECTS, dialect_of
from contract.dialects.chat import CHAT
from contract.dialects.dialect import COMPLETE, Dialect
from contract.dialects.messages import COUNT_TOKENS_PATH, MESSAGES


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_the_proxy_can_read_an_error_of_every_dialect(dialect: Dialect) -> None:
    error = ApiError(ErrorCode.CAPTURE_GAP, "a part is missing", param="messages")
    event = dialect.error_event(error)
    last_line = event.rstrip().rpartition(b"\n")[2]
    assert event.endswith(b"\n\n")
    assert is_error_event(last_line)
    assert last_line not in COMPLETE
    assert code_of(event) == code_of(dialect.error_body(error)) == ErrorCode.CAPTURE_GAP
    assert json.loads(dialect.error_body(error))["error"]["param"] == "messages"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (409, "invalid_request_error"),
        (413, "request_too_large"),
        (415, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_anthropics_kind_of_an_error_follows_from_its_status(status: int, kind: str) -> None:
    error = ApiError(ErrorCode.HTTP_ERROR, "as a test says", status=status)
    body = json.loads(MESSAGES.error_body(error))
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert MESSAGES.error_event(error).startswith(b"event: error\ndata: ")


def test_the_dialect_of_a_path() -> None:
    assert dialect_of(MESSAGES.path) is dialect_of(COUNT_TOKENS_PATH) is MESSAGES
    assert dialect_of(CHAT.path) is dialect_of("/v1/models") is dialect_of("/") is CHAT

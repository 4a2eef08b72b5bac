"""Errors as callers get them, whole and as the end of a stream."""

from __future__ import annotations

import json

import pytest

from contract import api_error
from contract.api_error import STATUS, ApiError, ErrorCode, code_of, not_to_be_retried


def test_every_code_has_a_status() -> None:
    assert set(STATUS) == set(ErrorCode)
    assert all(400 <= status < 600 for status in STATUS.values())


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_has_openais_form_whole_and_as_an_event(code: ErrorCode) -> None:
    error = ApiError(code, "what was wrong", param="model")
    body = json.loads(error.body())
    assert body == {"error": {"message": "what was wrong", "type": error.type, "param": "model", "code": code.value}}
    assert error.event() == b"data: " + error.body() + b"\n\n"
    assert code_of(error.body()) is code_of(error.event()) is code


@pytest.mark.parametrize("before", [b"", b"\n\n", b'data: {"choices":[]}\n\n', b"event: error\n"])
def test_the_code_of_an_error_that_speaks_of_data_urls(before: bytes) -> None:
    error = ApiError(ErrorCode.INVALID_REQUEST, "send the image itself, as a data: URL")
    assert code_of(error.body()) is code_of(before + error.event()) is error.code


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (429, "rate_limit_error"), (500, "server_error")]
)
def test_the_coarse_kind_follows_the_status(status: int, kind: str) -> None:
    assert ApiError(ErrorCode.HTTP_ERROR, "said", status=status).type == kind


def test_what_clients_are_told_about_trying_again() -> None:
    assert api_error.unavailable(ErrorCode.STARTING, "said", retry_after_s=0.2).headers == {"retry-after": "1"}
    assert api_error.unavailable(ErrorCode.QUOTA, "said", retry_after_s=4.1).headers == {"retry-after": "5"}
    assert api_error.not_to_be_retried(ErrorCode.CHILD_LOST, "said").headers == {"x-should-retry": "false"}
    assert api_error.bad_request("said", param="n").status == 400
    assert "Leave it out" in api_error.unsupported("n", "a page gives one answer").message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b'{"error": null}',
        b'{"error": {"code": null}}',
        b'{"error": {"code": "other"}}',
        b'{"error": {"code": {}}}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_an_error_of_somebody_else_has_no_code(body: bytes) -> None:
    assert code_of(body) is None


def test_json_is_compact_and_in_utf_8() -> None:
    assert api_error.to_json({"a": ["\xe4", 1]}) == '{"a":["\xe4",1]}'.encode()


@pytest.mark.parametrize("code", ErrorCode)
def test_no_status_that_promises_that_nothing_was_submitted_is_given_after_a_submission(code: ErrorCode) -> None:
    error = not_to_be_retried(code, "m")
    assert error.status not in (429, 503)
    assert error.headers == {"x-should-retry": "false"}

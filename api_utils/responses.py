"""Errors as HTTP responses of the child, and what a failure of the page means to the caller."""

from __future__ import annotations

from starlette.responses import Response

from browser.errors import BrowserError
from contract.api_error import DO_NOT_RETRY, ApiError, ErrorCode
from contract.child_api import REQUEST_ID_HEADER

RETRY_AFTER_S = 5


def error_response(error: ApiError, request_id: str | None = None) -> Response:
    """Return the error as a whole response; with the request's id when there is one."""
    named = {} if request_id is None else {REQUEST_ID_HEADER: request_id}
    return Response(error.body(), error.status, {**error.headers, **named}, media_type="application/json")


def from_browser(error: BrowserError, *, submitted: bool) -> ApiError:
    """Return the page's failure as an answer; `submitted` says whether the prompt may have reached the site."""
    return from_reason(error.reason, str(error), submitted=submitted or error.submitted)


def from_reason(reason: str, message: str, *, submitted: bool) -> ApiError:
    """Return the answer for one of the page's reasons, as `/ready` names them."""
    headers = DO_NOT_RETRY if submitted else {"retry-after": str(RETRY_AFTER_S)}
    return ApiError(ErrorCode(reason), message, headers=headers)

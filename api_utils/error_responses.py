"""Errors as the child's HTTP responses, whoever raises them: a route, the page, the framework, or a mistake of ours."""

from __future__ import annotations

from typing import Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import HTTPExceptionHandler

from browser.errors import BrowserError, PromptRejected
from contract.api_error import DO_NOT_RETRY, ApiError, ErrorCode, not_to_be_retried
from contract.child_api import REQUEST_ID_HEADER
from contract.dialects import dialect_of
from contract.dialects.chat import CHAT
from contract.dialects.dialect import Dialect
from contract.routes import no_route, wrong_method

log = structlog.get_logger(__name__)

RETRY_AFTER_S: Final = 5
_CODES: Final = {code.value: code for code in ErrorCode}


def error_response(error: ApiError, request_id: str | None = None, dialect: Dialect = CHAT) -> Response:
    """Return the error as a whole response in the dialect's form; with the request's id when there is one."""
    named = {} if request_id is None else {REQUEST_ID_HEADER: request_id}
    return Response(dialect.error_body(error), error.status, {**error.headers, **named}, media_type="application/json")


def from_browser(error: BrowserError, *, submitted: bool) -> ApiError:
    """Return the page's failure as an answer; `submitted` says whether the prompt may have reached the site."""
    if isinstance(error, PromptRejected) and error.for_good:
        return ApiError(ErrorCode.PROMPT_REJECTED, str(error), headers=DO_NOT_RETRY, status=400)
    return from_reason(error.reason, str(error), submitted=submitted or error.submitted)


def from_reason(reason: str, message: str, *, submitted: bool) -> ApiError:
    """Return the answer for one of the page's reasons, as `/ready` names them."""
    code = _CODES.get(reason, ErrorCode.INTERNAL_ERROR)
    if submitted:
        return not_to_be_retried(code, message)
    return ApiError(code, message, headers={"retry-after": str(RETRY_AFTER_S)})


def unexpected() -> ApiError:
    """Return the answer for a mistake of ours: nobody can tell whether a prompt was submitted."""
    return not_to_be_retried(ErrorCode.INTERNAL_ERROR, "something unexpected went wrong")


async def _from_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class only
    return error_response(error, dialect=dialect_of(request.url.path))


async def _from_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    match error:
        case HTTPException(status_code=404):
            shown = no_route()
        case HTTPException(status_code=405, headers={"Allow": str(allowed)}):
            shown = wrong_method(allowed)
        case _:
            headers = dict(error.headers or {})
            shown = ApiError(ErrorCode.HTTP_ERROR, str(error.detail), headers=headers, status=error.status_code)
    return error_response(shown, dialect=dialect_of(request.url.path))


async def _from_mistake(request: Request, error: Exception) -> Response:
    log.error("unexpected_error", kind=type(error).__name__)
    return error_response(unexpected(), dialect=dialect_of(request.url.path))


EXCEPTION_HANDLERS: Final[dict[type[Exception], HTTPExceptionHandler]] = {
    ApiError: _from_api_error,
    HTTPException: _from_framework,
    Exception: _from_mistake,
}

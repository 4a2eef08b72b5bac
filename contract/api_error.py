"""Errors as a caller of the API sees them: one closed set of codes, in OpenAI's form.

Wire format: https://platform.openai.com/docs/guides/error-codes/api-errors
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from contract.errors import TabfleetError

SHOULD_RETRY_HEADER: Final = "x-should-retry"
"""`false` keeps the OpenAI client from sending a request again (its `_should_retry`)."""

DO_NOT_RETRY: Final[Mapping[str, str]] = {SHOULD_RETRY_HEADER: "false"}


class ErrorCode(StrEnum):
    """Every `error.code` of both programs. A closed set: metrics use it as a label."""

    ACTION_REFUSED = "action_refused"
    ADMIN_OFF = "admin_off"
    BAD_FORMAT = "bad_format"
    BAD_TOOL_CALL = "bad_tool_call"
    BODY_TOO_LARGE = "body_too_large"
    BROWSER_LOST = "browser_lost"
    BUFFER_FULL = "buffer_full"
    CANCELLED = "cancelled"
    CAPTURE_GAP = "capture_gap"
    CHILD_LOST = "child_lost"
    CLAIM_LOST = "claim_lost"
    DRAINING = "draining"
    DUPLICATE_REQUEST_ID = "duplicate_request_id"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105 - no password
    HTTP_ERROR = "http_error"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    INTERNAL_ERROR = "internal_error"
    INVALID_API_KEY = "invalid_api_key"
    INVALID_REQUEST = "invalid_request"
    LOGIN_EXPIRED = "login_expired"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MISDIRECTED_REQUEST = "misdirected_request"
    MISSING_API_KEY = "missing_api_key"
    MODEL_NOT_FOUND = "model_not_found"
    NONE_READY = "none_ready"
    NOT_FOUND = "not_found"
    NOT_QUEUED = "not_queued"
    NO_PAGE = "no_page"
    PAGE_BROKEN = "page_broken"
    PREVIOUS_RESPONSE_NOT_FOUND = "previous_response_not_found"
    PROMPT_CHANGED = "prompt_changed"
    PROMPT_REJECTED = "prompt_rejected"
    PROXY_REFUSED = "proxy_refused"
    PROXY_UNREACHABLE = "proxy_unreachable"
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    QUOTA = "quota"
    REFUSED = "refused"
    RELOAD_FAILED = "reload_failed"
    REPEATED_AFTER_SUBMISSION = "repeated_after_submission"
    REQUEST_TIMEOUT = "request_timeout"
    RESPONSE_NOT_FOUND = "response_not_found"
    ROLE_MISSING = "role_missing"
    SCREENSHOT_TIMEOUT = "screenshot_timeout"
    SHUTDOWN = "shutdown"
    SITE_ERROR = "site_error"
    SITE_UNREACHABLE = "site_unreachable"
    STARTING = "starting"
    STREAM_IDLE_TIMEOUT = "stream_idle_timeout"
    UNKNOWN_CHILD = "unknown_child"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"


STATUS: Final[Mapping[ErrorCode, int]] = {
    ErrorCode.ACTION_REFUSED: 409,
    ErrorCode.ADMIN_OFF: 403,
    ErrorCode.BAD_FORMAT: 502,
    ErrorCode.BAD_TOOL_CALL: 502,
    ErrorCode.BODY_TOO_LARGE: 413,
    ErrorCode.BROWSER_LOST: 502,
    ErrorCode.BUFFER_FULL: 503,
    ErrorCode.CANCELLED: 503,
    ErrorCode.CAPTURE_GAP: 502,
    ErrorCode.CHILD_LOST: 502,
    ErrorCode.CLAIM_LOST: 503,
    ErrorCode.DRAINING: 503,
    ErrorCode.DUPLICATE_REQUEST_ID: 409,
    ErrorCode.FIRST_TOKEN_TIMEOUT: 504,
    ErrorCode.HTTP_ERROR: 400,
    ErrorCode.IDEMPOTENCY_KEY_REUSED: 409,
    ErrorCode.INTERNAL_ERROR: 500,
    ErrorCode.INVALID_API_KEY: 401,
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.LOGIN_EXPIRED: 503,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.MISDIRECTED_REQUEST: 421,
    ErrorCode.MISSING_API_KEY: 401,
    ErrorCode.MODEL_NOT_FOUND: 404,
    ErrorCode.NONE_READY: 503,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.NOT_QUEUED: 503,
    ErrorCode.NO_PAGE: 503,
    ErrorCode.PAGE_BROKEN: 502,
    ErrorCode.PREVIOUS_RESPONSE_NOT_FOUND: 404,
    ErrorCode.PROMPT_CHANGED: 502,
    ErrorCode.PROMPT_REJECTED: 502,
    ErrorCode.PROXY_REFUSED: 503,
    ErrorCode.PROXY_UNREACHABLE: 503,
    ErrorCode.QUEUE_FULL: 429,
    ErrorCode.QUEUE_TIMEOUT: 503,
    ErrorCode.QUOTA: 429,
    ErrorCode.REFUSED: 400,
    ErrorCode.RELOAD_FAILED: 502,
    ErrorCode.REPEATED_AFTER_SUBMISSION: 400,
    ErrorCode.REQUEST_TIMEOUT: 408,
    ErrorCode.RESPONSE_NOT_FOUND: 404,
    ErrorCode.ROLE_MISSING: 403,
    ErrorCode.SCREENSHOT_TIMEOUT: 504,
    ErrorCode.SHUTDOWN: 503,
    ErrorCode.SITE_ERROR: 502,
    ErrorCode.SITE_UNREACHABLE: 503,
    ErrorCode.STARTING: 503,
    ErrorCode.STREAM_IDLE_TIMEOUT: 504,
    ErrorCode.UNKNOWN_CHILD: 404,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.UNSUPPORTED_PARAMETER: 400,
}
"""The HTTP status of each code. HTTP_ERROR stands for what the framework refuses, with the status it gives."""


NOTHING_SUBMITTED: Final = frozenset({429, 503})
"""Statuses that promise that the prompt has not reached the site."""


@dataclass(eq=False)  # not frozen: raising an exception writes its traceback into it
class ApiError(TabfleetError):
    """An answer with an error in it. `message` is for people and holds no secret, path or prompt.

    `param` names the request's parameter at fault; `status` overrides the code's own; `headers` go out with it.
    """

    code: ErrorCode
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 0

    def __post_init__(self) -> None:
        super().__init__(self.message)
        self.status = self.status or STATUS[self.code]

    @property
    def type(self) -> str:
        """OpenAI's coarse kind of the error, derived from the status."""
        if self.status == 429:
            return "rate_limit_error"
        return "server_error" if self.status >= 500 else "invalid_request_error"

    def body(self) -> bytes:
        """Return the error as a JSON body."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return to_json({"error": error})

    def event(self) -> bytes:
        """Return the error as the last server-sent event of a stream."""
        return sse(self.body())


def bad_request(message: str, *, param: str | None = None) -> ApiError:
    """Return the error for a request that no repetition will make right."""
    return ApiError(ErrorCode.INVALID_REQUEST, message, param=param)


def unsupported(param: str, why: str) -> ApiError:
    """Return the error for a parameter that a page cannot honour and that would change what the answer looks like."""
    return ApiError(ErrorCode.UNSUPPORTED_PARAMETER, f"{param} is not supported: {why}. Leave it out.", param=param)


def unavailable(code: ErrorCode, message: str, *, retry_after_s: float) -> ApiError:
    """Return the error for a request that was not submitted and may well succeed in retry_after_s seconds."""
    return ApiError(code, message, headers={"retry-after": str(max(1, math.ceil(retry_after_s)))})


def not_to_be_retried(code: ErrorCode, message: str) -> ApiError:
    """Return the error for a request whose prompt may have been submitted: no client may send it again by itself.

    Balancers know no such header and send a request again by its status, after 429 and 503 at that: those say that
    nothing was submitted, and here it is 502.
    """
    return ApiError(code, message, headers=DO_NOT_RETRY, status=502 if STATUS[code] in NOTHING_SUBMITTED else 0)


def code_of(body: bytes) -> ErrorCode | None:
    """Return the code of an error that a child sent, as a whole body or as an event; None if it is none of ours."""
    try:
        # Not whatever comes after `data:`, for a message may speak of such URLs.
        text = body.strip()
        text = text if text.startswith(b"{") else text.rpartition(b"\n")[2].removeprefix(b"data:")
        return ErrorCode(json.loads(text)["error"]["code"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def is_error_event(line: bytes) -> bool:
    """Return whether the last line of a stream is an event as `ApiError.event` makes it, whatever its code."""
    try:
        value = json.loads(line.removeprefix(b"data:"))
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and isinstance(value.get("error"), dict)


def to_json(value: Any) -> bytes:
    """Return compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def sse(data: bytes, event: str = "") -> bytes:
    """Return one server-sent event, with its name if it has one; `data` has no line break.

    Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    name = b"event: " + event.encode() + b"\n" if event else b""
    return name + b"data: " + data + b"\n\n"

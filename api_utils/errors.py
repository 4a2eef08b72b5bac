"""What the child answers when it cannot answer: OpenAI's error shape and a status for each reason.

Wire format: https://platform.openai.com/docs/guides/error-codes/api-errors
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from starlette.responses import JSONResponse

from browser.errors import BrowserError

_STATUS_OF_REASON: Final = {
    "starting": 503,
    "login_expired": 503,
    "quota": 429,
    "refused": 400,
    "first_token_timeout": 504,
    "stream_idle_timeout": 504,
    "screenshot_timeout": 504,
}
_STATUS_OF_ANY_OTHER_REASON: Final = 502
_TYPE_OF_REASON: Final = {"quota": "rate_limit_error", "refused": "invalid_request_error"}


@dataclass(eq=False)  # not frozen: raising an exception writes its traceback into it
class ApiError(Exception):
    """An answer with an error in it. `message` is for people and holds no secret, path or prompt."""

    status: int
    code: str
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """The JSON body in OpenAI's shape."""
        return {
            "error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code},
        }

    def response(self, request_id: str | None = None) -> JSONResponse:
        """The whole response; with the request's id when there is one."""
        named = {} if request_id is None else {"x-request-id": request_id}
        return JSONResponse(self.body(), status_code=self.status, headers={**self.headers, **named})


def bad_request(message: str, *, param: str | None = None, code: str = "invalid_request") -> ApiError:
    """A request that no repetition will make right."""
    return ApiError(400, code, message, param=param)


def unsupported(param: str, why: str) -> ApiError:
    """A parameter that a chat page cannot honour and that would change what the answer looks like."""
    message = f"{param} is not supported: {why}. Leave it out."
    return bad_request(message, param=param, code="unsupported_parameter")


def from_browser(error: BrowserError, *, submitted: bool) -> ApiError:
    """The page's failure as an answer.

    After a possible submission a client must not send the prompt again by itself: the OpenAI client
    obeys ``x-should-retry: false`` (its `_should_retry`).
    """
    return from_reason(error.reason, str(error), submitted=submitted or error.submitted)


def from_reason(reason: str, message: str, *, submitted: bool) -> ApiError:
    """An answer for one of the page's reasons, as `/ready` names them."""
    return ApiError(
        status=_STATUS_OF_REASON.get(reason, _STATUS_OF_ANY_OTHER_REASON),
        code=reason,
        message=message,
        type=_TYPE_OF_REASON.get(reason, "server_error"),
        headers={"x-should-retry": "false"} if submitted else {"retry-after": "5"},
    )

"""What the coordinator itself says on the wire: errors in OpenAI's form, models, whole responses.

Wire formats: https://platform.openai.com/docs/guides/error-codes/api-errors,
https://platform.openai.com/docs/api-reference/models/object
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Send

Headers = list[tuple[bytes, bytes]]

SHOULD_NOT_RETRY: Final = (b"x-should-retry", b"false")
CLOSE: Final = (b"connection", b"close")
_JSON: Final = (b"content-type", b"application/json")
_CHILDS_CODES: Final = frozenset(
    {
        "browser_lost",
        "cancelled",
        "capture_gap",
        "first_token_timeout",
        "internal_error",
        "invalid_request",
        "login_expired",
        "model_not_found",
        "page_broken",
        "prompt_rejected",
        "quota",
        "refused",
        "site_error",
        "starting",
        "stream_idle_timeout",
        "unsupported_parameter",
    }
)


@dataclass(eq=False)  # not frozen: raising an exception writes its traceback into it
class Refusal(Exception):
    """A request that gets an error instead of an answer. `message` is for people and holds no secret."""

    status: int
    code: str
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __post_init__(self) -> None:
        super().__init__(self.message)

    def body(self) -> bytes:
        """The error in OpenAI's form."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return to_json({"error": error})

    def event(self) -> bytes:
        """The error as the last server-sent event of a stream."""
        return b"data: " + self.body() + b"\n\n"


def bad_request(message: str, *, param: str | None = None) -> Refusal:
    """A request that no repetition will make right."""
    return Refusal(400, "invalid_request", message, param=param)


def unavailable(code: str, message: str, *, retry_after_s: float, status: int = 503) -> Refusal:
    """A request that may well succeed later, and was not passed on to any page."""
    kind = "rate_limit_error" if status == 429 else "server_error"
    after = (b"retry-after", str(max(1, math.ceil(retry_after_s))).encode())
    return Refusal(status, code, message, type=kind, headers=(after,))


def failed(status: int, code: str, message: str) -> Refusal:
    """A request whose prompt may have been submitted: no client may send it again by itself.

    The OpenAI client obeys ``x-should-retry: false`` (its `_should_retry`).
    """
    return Refusal(status, code, message, type="server_error", headers=(SHOULD_NOT_RETRY,))


def error_code(body: bytes) -> str:
    """The code of an error that a child sent, as a whole body or as an event: one of a closed set, or "other"."""
    try:
        code = json.loads(body.strip().rpartition(b"data:")[2])["error"]["code"]
    except (ValueError, TypeError, LookupError):
        return "other"
    return code if code in _CHILDS_CODES else "other"


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def send_json(send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """A JSON response in one piece; `headers` are those beside content type and length."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [_JSON, length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_refusal(send: Send, refusal: Refusal, request_id: str, *, closing: bool = False) -> None:
    """The refusal as a whole response; `closing` asks the client to come with a new connection."""
    named = (b"x-request-id", request_id.encode())
    close = (CLOSE,) if closing and CLOSE not in refusal.headers else ()
    await send_json(send, refusal.status, refusal.body(), (named, *refusal.headers, *close))


def model_card(name: str, owner: str) -> dict[str, Any]:
    """A model in OpenAI's form; a page tells no date of creation, so it is 0."""
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}

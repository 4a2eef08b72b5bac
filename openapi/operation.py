"""One operation of the coordinator: what it takes, what it answers, who may call it, and which errors it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel

from contract.api_error import STATUS, ErrorCode
from openapi import answers

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"

# What any request can get: see contract/http_protocol.py and the application's check of the Host header.
_ANY_ROUTE: Final = frozenset({ErrorCode.INVALID_REQUEST, ErrorCode.REQUEST_TIMEOUT, ErrorCode.MISDIRECTED_REQUEST})
_NO_CONNECTION_LEFT: Final = (503, ErrorCode.QUEUE_FULL)

_KEY_ERRORS: Final = frozenset({ErrorCode.MISSING_API_KEY, ErrorCode.INVALID_API_KEY, ErrorCode.STARTING})
_ROLE_ERRORS: Final = _KEY_ERRORS | {ErrorCode.ADMIN_OFF, ErrorCode.ROLE_MISSING}

TAKES_A_PROMPT: Final = frozenset(
    {
        *(ErrorCode.UNSUPPORTED_PARAMETER, ErrorCode.MODEL_NOT_FOUND, ErrorCode.BODY_TOO_LARGE),
        *(ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.BUFFER_FULL, ErrorCode.NONE_READY, ErrorCode.DRAINING),
        ErrorCode.INTERNAL_ERROR,
    }
)
"""The errors of every route that takes what could be a prompt."""

ASKS_A_PAGE: Final = TAKES_A_PROMPT | frozenset(
    {
        *(ErrorCode.QUEUE_FULL, ErrorCode.QUEUE_TIMEOUT, ErrorCode.NOT_QUEUED),
        *(ErrorCode.SHUTDOWN, ErrorCode.CANCELLED, ErrorCode.CHILD_LOST, ErrorCode.CLAIM_LOST),
        *(ErrorCode.REFUSED, ErrorCode.QUOTA, ErrorCode.LOGIN_EXPIRED, ErrorCode.SITE_ERROR, ErrorCode.PAGE_BROKEN),
        *(ErrorCode.SITE_UNREACHABLE, ErrorCode.PROXY_UNREACHABLE, ErrorCode.PROXY_REFUSED),
        *(ErrorCode.PROMPT_REJECTED, ErrorCode.BROWSER_LOST, ErrorCode.CAPTURE_GAP),
        ErrorCode.PROMPT_CHANGED,
        *(ErrorCode.BAD_FORMAT, ErrorCode.BAD_TOOL_CALL),
        *(ErrorCode.FIRST_TOKEN_TIMEOUT, ErrorCode.STREAM_IDLE_TIMEOUT),
        *(ErrorCode.IDEMPOTENCY_KEY_REUSED, ErrorCode.REPEATED_AFTER_SUBMISSION),
    }
)
"""The errors of every route that asks a page, whatever its dialect."""

_OTHER_STATUS: Final[Mapping[ErrorCode, int]] = {
    ErrorCode.PROMPT_REJECTED: 400,  # where the page will never take it
    # After the prompt may have been submitted: `contract.api_error.not_to_be_retried`.
    ErrorCode.QUOTA: 502,
    ErrorCode.LOGIN_EXPIRED: 502,
    ErrorCode.CANCELLED: 502,
    ErrorCode.CLAIM_LOST: 502,
    ErrorCode.SHUTDOWN: 502,
    ErrorCode.SITE_UNREACHABLE: 502,
    ErrorCode.PROXY_UNREACHABLE: 502,
    ErrorCode.PROXY_REFUSED: 502,
}
"""Codes that a route which asks a page gives with another status, too."""


@dataclass(frozen=True)
class Parameter:
    """A parameter; those of the path alone have to be there."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    where: Literal["path", "query", "header"] = "path"


IDEMPOTENCY_KEY: Final = Parameter(
    "Idempotency-Key",
    "Chosen anew for each request that is to be answered anew: a repeat with it gets the same answer, submitted once.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "header",
)
"""Of every route that asks a page."""


@dataclass(frozen=True)
class Operation:
    """One method of one path; with `head`, HEAD too.

    `status` is that of an answer, and `also` others with the same body. `content` names an answer's type by its media
    type; of `text/event-stream` it is the type of an event's data, as in OpenAI's own document. `more` are properties
    that the body's type has no field for, and `hidden` fields that are no caller's business. `key` says who may call:
    everybody, whoever has a key, or has one with the role.
    """

    method: Literal["get", "post", "delete"]
    path: str
    id: str
    tag: str
    summary: str
    content: Mapping[str, Any]
    description: str = ""
    status: int = 200
    also: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    key: Literal["none", "any", "view", "operate"] = "any"
    head: bool = False
    deprecated: bool = False
    codes: frozenset[ErrorCode] = frozenset()
    error: Any = answers.Error
    parameters: tuple[Parameter, ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def takes_a_prompt(self) -> bool:
        """Whether there is what could be a prompt, whose tokens are estimated."""
        return self.codes >= TAKES_A_PROMPT

    @property
    def asks_a_page(self) -> bool:
        """Whether a prompt is submitted."""
        return self.codes >= ASKS_A_PAGE

    @property
    def errors(self) -> dict[int, list[ErrorCode]]:
        """Return the codes of the errors by their status, both in order."""
        held = {"none": frozenset[ErrorCode](), "any": _KEY_ERRORS}.get(self.key, _ROLE_ERRORS)
        pairs = {(STATUS[code], code) for code in self.codes | held | _ANY_ROUTE} | {_NO_CONNECTION_LEFT}
        if self.asks_a_page:
            pairs |= {(status, code) for code, status in _OTHER_STATUS.items()}
        return {
            status: sorted(code for at, code in pairs if at == status) for status in sorted({at for at, _ in pairs})
        }

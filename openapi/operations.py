"""Every operation of the coordinator: what it takes, what it answers, who may call it, and which errors it gives.

Another route is one more `Operation`; another dialect besides brings the schema of its request, the types of its
answers, and the type of its errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel

from api_utils.chat_request import ONLY_HARMLESS, ChatRequest
from contract.api_error import STATUS, ErrorCode
from contract.dialects.chat import CHAT
from openapi import answers

_JSON: Final = "application/json"
_EVENTS: Final = "text/event-stream"
DOCUMENT_PATH: Final = "/openapi.json"

# What any request can get: see contract/http_protocol.py and the application's check of the Host header.
_ANY_ROUTE: Final = frozenset({ErrorCode.INVALID_REQUEST, ErrorCode.REQUEST_TIMEOUT, ErrorCode.MISDIRECTED_REQUEST})
_NO_CONNECTION_LEFT: Final = (503, ErrorCode.QUEUE_FULL)

_KEY_ERRORS: Final = frozenset({ErrorCode.MISSING_API_KEY, ErrorCode.INVALID_API_KEY, ErrorCode.STARTING})
_ROLE_ERRORS: Final = _KEY_ERRORS | {ErrorCode.ADMIN_OFF, ErrorCode.ROLE_MISSING}

ASKS_A_PAGE: Final = frozenset(
    {
        *(ErrorCode.UNSUPPORTED_PARAMETER, ErrorCode.MODEL_NOT_FOUND, ErrorCode.BODY_TOO_LARGE),
        *(ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.BUFFER_FULL, ErrorCode.QUEUE_FULL, ErrorCode.QUEUE_TIMEOUT),
        *(ErrorCode.NONE_READY, ErrorCode.DRAINING, ErrorCode.SHUTDOWN, ErrorCode.CANCELLED, ErrorCode.CHILD_LOST),
        *(ErrorCode.REFUSED, ErrorCode.QUOTA, ErrorCode.LOGIN_EXPIRED, ErrorCode.SITE_ERROR, ErrorCode.PAGE_BROKEN),
        *(ErrorCode.PROMPT_REJECTED, ErrorCode.BROWSER_LOST, ErrorCode.CAPTURE_GAP, ErrorCode.INTERNAL_ERROR),
        *(ErrorCode.BAD_FORMAT, ErrorCode.BAD_TOOL_CALL),
        *(ErrorCode.FIRST_TOKEN_TIMEOUT, ErrorCode.STREAM_IDLE_TIMEOUT),
    }
)
"""The errors of every route that asks a page, whatever its dialect."""

_OTHER_STATUS: Final[Mapping[ErrorCode, int]] = {
    ErrorCode.PROMPT_REJECTED: 400,  # where the page will never take it
    # After the prompt may have been submitted: `contract.api_error.not_to_be_retried`.
    ErrorCode.QUOTA: 502,
    ErrorCode.LOGIN_EXPIRED: 502,
    ErrorCode.CANCELLED: 502,
    ErrorCode.SHUTDOWN: 502,
}
"""Codes that a route which asks a page gives with another status, too."""


@dataclass(frozen=True)
class Operation:
    """One method of one path; with `head`, HEAD too.

    `status` is that of an answer, and `also` others with the same body. `content` names an answer's type by its media
    type; of `text/event-stream` it is the type of an event's data, as in OpenAI's own document. `more` are properties
    that the body's type has no field for. `key` says who may call: everybody, whoever has a key, or has one with the
    role.
    """

    method: Literal["get", "post"]
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
    parameters: Mapping[str, str] = field(default_factory=dict)

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


_CHAT: Final = """\
A page takes one text, and every request starts a fresh conversation on it: the messages are written out as one
prompt. docs/api.md says how, and what becomes of each parameter.

With `stream` the answer is `text/event-stream`: each event is `data:` with a `ChatCompletionChunk`, the last one is
`data: [DONE]`. Lines that begin with `:` are sent while a page has not begun its answer. A stream that fails midway
ends with `data: {"error": {...}}` and without `[DONE]`.

A whole answer that takes more than 10 seconds after its prompt was submitted begins with line breaks, which JSON
parsers skip. What fails after the first of them has status 200, and the body ends with a line
`data: {"error": {...}}`, which is not JSON on purpose."""

_HELLO: Final = [{"role": "user", "content": "What is a quay?"}]
_WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

_WITHOUT_FIELD: Final = {
    **{
        name: {"description": "Accepted, without effect."}
        for name in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "user", "metadata")
    },
    **{name: {"enum": list(values), "description": why} for name, (values, why) in ONLY_HARMLESS.items()},
    **{
        name: {"enum": [None, False], "description": "A page has no such feature."}
        for name in ("audio", "logprobs", "top_logprobs", "prediction")
    },
    "functions": {"enum": [None, []], "description": "It is the old form of `tools`."},
}

_MODEL_ID: Final = {"id": "The model's name. A slash in it may be written as it is."}
_CHILD_NAME: Final = {"name": "The child's name: its profile's file name without `.json`."}
_READY: Final = {_JSON: answers.Ready}
_PROBE: Final[dict[str, Any]] = {"key": "none", "head": True, "also": (503,)}
_ACTION: Final[dict[str, Any]] = {
    "content": {_JSON: answers.Accepted},
    "status": 202,
    "key": "operate",
    "parameters": _CHILD_NAME,
    "codes": frozenset({ErrorCode.UNKNOWN_CHILD, ErrorCode.ACTION_REFUSED}),
}

OPERATIONS: Final = (
    Operation(
        "post",
        CHAT.path,
        "createChatCompletion",
        "chat",
        "Ask a page",
        {_JSON: answers.ChatCompletion, _EVENTS: answers.ChatCompletionChunk},
        description=_CHAT,
        body=ChatRequest,
        more=_WITHOUT_FIELD,
        examples={
            "plain": {"model": "demo-small", "messages": _HELLO},
            "streamed": {"model": "demo-small", "messages": _HELLO, "stream": True},
            "tools": {"model": "demo-small", "messages": _HELLO, "tools": [_WEATHER]},
        },
        codes=ASKS_A_PAGE,
    ),
    Operation("get", "/v1/models", "listModels", "models", "The models there are", {_JSON: answers.ModelList}),
    Operation(
        "get",
        "/v1/models/{id}",
        "getModel",
        "models",
        "One model",
        {_JSON: answers.Model},
        parameters=_MODEL_ID,
        codes=frozenset({ErrorCode.MODEL_NOT_FOUND}),
    ),
    Operation(
        "get", "/live", "live", "health", "Whether the process serves", {_JSON: answers.Live}, key="none", head=True
    ),
    Operation("get", "/ready", "ready", "health", "Whether a request would find a page", _READY, **_PROBE),
    Operation("get", "/health", "health", "health", "`/ready` under its old name", _READY, deprecated=True, **_PROBE),
    Operation(
        "get",
        "/metrics",
        "metrics",
        "metrics",
        "Prometheus metrics",
        {"text/plain": answers.Text},
        description="Open to everybody where `METRICS_PUBLIC` is set.",
    ),
    Operation("get", DOCUMENT_PATH, "openApi", "metrics", "This document", {_JSON: answers.Document}),
    Operation(
        "post",
        "/admin/reload",
        "reload",
        "admin",
        "Fetch profiles and keys anew",
        {_JSON: answers.Reloaded},
        key="operate",
        codes=frozenset({ErrorCode.RELOAD_FAILED}),
    ),
    Operation(
        "get",
        "/admin/children/{name}",
        "showChild",
        "admin",
        "All that is known of a child",
        {_JSON: answers.ChildDetail},
        key="view",
        parameters=_CHILD_NAME,
        codes=frozenset({ErrorCode.UNKNOWN_CHILD}),
    ),
    Operation(
        "get",
        "/admin/children/{name}/screenshot",
        "screenshot",
        "admin",
        "What the child's page shows now",
        {"image/png": answers.Picture},
        key="view",
        parameters=_CHILD_NAME,
        codes=frozenset(
            {ErrorCode.UNKNOWN_CHILD, ErrorCode.NO_PAGE, ErrorCode.PAGE_BROKEN, ErrorCode.SCREENSHOT_TIMEOUT}
        ),
    ),
    Operation(
        "post",
        "/admin/children/{name}/restart",
        "restartChild",
        "admin",
        "Replace the child's process after its running answer",
        **_ACTION,
    ),
    Operation(
        "post",
        "/admin/children/{name}/reset",
        "resetChild",
        "admin",
        "End a child's rest, failure or drain",
        **_ACTION,
    ),
    Operation(
        "post",
        "/admin/children/{name}/drain",
        "drainChild",
        "admin",
        "Take a child out after its running answer, until a reset",
        **_ACTION,
    ),
)

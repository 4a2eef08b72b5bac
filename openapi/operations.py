"""Every operation of the coordinator.

Another route is one more `Operation`; another dialect is a module with the types of what it takes and answers.
"""

from __future__ import annotations

from typing import Any, Final

from contract.api_error import ErrorCode
from coordinator.logins.remote import NewLogin
from openapi import answers, chat, messages, responses
from openapi.operation import JSON, Operation, Parameter

DOCUMENT_PATH: Final = "/openapi.json"

_MODEL_ID: Final = (Parameter("id", "The model's name. A slash in it may be written as it is."),)
_CHILD_NAME: Final = (Parameter("name", "The child's name: its profile's file name without `.json`."),)
_READY: Final = {JSON: answers.Ready}
_PROBE: Final[dict[str, Any]] = {"key": "none", "head": True, "also": (503,)}
_ACTION: Final[dict[str, Any]] = {
    "content": {JSON: answers.Accepted},
    "status": 202,
    "key": "operate",
    "parameters": _CHILD_NAME,
    "codes": frozenset({ErrorCode.UNKNOWN_CHILD, ErrorCode.ACTION_REFUSED}),
}

OPERATIONS: Final = (
    *chat.OPERATIONS,
    *responses.OPERATIONS,
    *messages.OPERATIONS,
    Operation("get", "/v1/models", "listModels", "models", "The models there are", {JSON: answers.ModelList}),
    Operation(
        "get",
        "/v1/models/{id}",
        "getModel",
        "models",
        "One model",
        {JSON: answers.Model},
        parameters=_MODEL_ID,
        codes=frozenset({ErrorCode.MODEL_NOT_FOUND}),
    ),
    Operation(
        "get", "/live", "live", "health", "Whether the process serves", {JSON: answers.Live}, key="none", head=True
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
    Operation("get", DOCUMENT_PATH, "openApi", "metrics", "This document", {JSON: answers.Document}),
    Operation(
        "post",
        "/admin/reload",
        "reload",
        "admin",
        "Fetch profiles and keys anew",
        {JSON: answers.Reloaded},
        key="operate",
        codes=frozenset({ErrorCode.RELOAD_FAILED}),
    ),
    Operation(
        "post",
        "/admin/logins",
        "beginLogin",
        "admin",
        "Open a browser for a person to log in, from anywhere",
        {JSON: answers.LoginBegun},
        description="Whoever opens the link first sees that browser, and is the only one; docs/logins.md has the rest.",
        status=201,
        body=NewLogin,
        key="operate",
        codes=frozenset({ErrorCode.ACTION_REFUSED, ErrorCode.UNSUPPORTED_MEDIA_TYPE, ErrorCode.BODY_TOO_LARGE}),
    ),
    Operation(
        "get",
        "/admin/children/{name}",
        "showChild",
        "admin",
        "All that is known of a child",
        {JSON: answers.ChildDetail},
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

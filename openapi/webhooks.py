"""What the coordinator sends to `ALERT_URL`: https://spec.openapis.org/oas/v3.1.1.html#oas-webhooks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from coordinator.alerts.alert import Alert, AlertBody, AlertKind
from coordinator.supervision.lifecycle import Reason, State

BODY: Final = AlertBody
TAG: Final = "alerts"

_AT: Final = 1_796_040_000.0
_CHILD: Final = {"child": "ada"}
EXAMPLES: Final[Mapping[AlertKind, Alert]] = {
    alert.kind: alert
    for alert in (
        Alert(AlertKind.LOGIN_EXPIRES, _AT, {**_CHILD, "expires_at": "2026-12-03T11:58:00.000Z", "days_left": 3.0}),
        Alert(AlertKind.LOGIN_LOST, _AT, {**_CHILD, "reason": Reason.LOGIN_EXPIRED}),
        Alert(AlertKind.QUOTA, _AT, {**_CHILD, "reason": Reason.QUOTA}),
        Alert(
            AlertKind.PAGE_CHANGED,
            _AT,
            {
                "site": "demo",
                "where": "demo.toml, line 12, ready: nothing matches #prompt",
                "reason": Reason.PAGE_BROKEN,
                **_CHILD,
            },
        ),
        Alert(AlertKind.CRASH_LOOP, _AT, {**_CHILD, "reason": Reason.CRASH_LOOP}),
        Alert(AlertKind.ALL_AWAY, _AT, {"children": {State.FAILED: 2, State.RESTING: 1}}),
        Alert(AlertKind.RECOVERED, _AT, {**_CHILD, "recovered_from": AlertKind.LOGIN_LOST, "lasted_s": 5400.0}),
        Alert(AlertKind.LEFT_OUT, _AT, {"left_out": {AlertKind.LOGIN_LOST: 180}}),
        Alert(AlertKind.TEST, _AT),
    )
}
"""One alert of each kind, as docs/logins.md shows them."""

_HEADERS: Final = {
    "webhook-id": "The alert's id, the same however often it is sent.",
    "webhook-timestamp": "When this attempt was made, in Unix seconds.",
    "webhook-signature": "`v1,` and the base64 of the HMAC-SHA256 of id, timestamp and body with dots between;"
    " one for each secret, with spaces between.",
}


def webhooks(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document's `webhooks`; `body` refers to the schema of `BODY`."""
    examples = {str(kind): {"value": json.loads(alert.body())} for kind, alert in EXAMPLES.items()}
    return {
        "alert": {
            "post": {
                "operationId": "alert",
                "tags": [TAG],
                "summary": "What an operator should know",
                "description": "Sent in order, at least once, by Standard Webhooks: verify the signature over the"
                " body's bytes before anything else, and tell by `webhook-id` what came twice.",
                "parameters": [
                    {"name": name, "in": "header", "required": True, "description": what, "schema": {"type": "string"}}
                    for name, what in _HEADERS.items()
                ],
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": dict(body), "examples": examples}},
                },
                "responses": {
                    "2XX": {"description": "The receiver has it"},
                    "default": {"description": "It is sent again later; `Retry-After` is honoured up to an hour"},
                },
                "security": [],
            }
        }
    }

"""What is told: the kinds, and one alert as it is sent.

The form is that of Standard Webhooks, `type`, `timestamp` and `data`:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md#payload-structure
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NotRequired

from typing_extensions import TypedDict

from coordinator.supervision.lifecycle import Reason, State


class AlertKind(StrEnum):
    """What an alert is about; a closed set: labels stay bounded."""

    LOGIN_EXPIRES = "login_expires"
    LOGIN_LOST = "login_lost"
    QUOTA = "quota"
    PAGE_CHANGED = "page_changed"
    CRASH_LOOP = "crash_loop"
    ALL_AWAY = "all_away"
    RECOVERED = "recovered"
    LEFT_OUT = "left_out"
    TEST = "test"


WORDS: Final[Mapping[AlertKind, str]] = {
    AlertKind.LOGIN_EXPIRES: "The login will expire soon; renew it before.",
    AlertKind.LOGIN_LOST: "The site does not accept the login any more; log in again.",
    AlertKind.QUOTA: "The site's quota for this login is used up; the child rests until it is tried again.",
    AlertKind.PAGE_CHANGED: "The page is not what the site file says; check the site file.",
    AlertKind.CRASH_LOOP: "The child ended soon after each of its last starts; it is tried again, but slowly.",
    AlertKind.ALL_AWAY: "No child is ready; requests get no answer.",
    AlertKind.RECOVERED: "What was told before is over.",
    AlertKind.LEFT_OUT: "More has happened than is told; GET /ready shows how things stand.",
    AlertKind.TEST: "A test; nothing has happened.",
}
"""What each kind means, in a line for people."""


class AlertData(TypedDict):
    """What happened. Times are in UTC (RFC 3339); what does not apply is not there.

    `child` is the name of its profile, `site` that of a site file; without either it is about all children. `cell` is
    the name of the coordinator where it has one among several.
    `where` names file, line and selector of a site file. `children` counts all children by their state. `left_out`
    counts, by kind, what was not told when it began.
    """

    message: str
    cell: NotRequired[str]
    child: NotRequired[str]
    site: NotRequired[str]
    reason: NotRequired[Reason]
    where: NotRequired[str]
    expires_at: NotRequired[str]
    days_left: NotRequired[float]
    recovered_from: NotRequired[AlertKind]
    lasted_s: NotRequired[float]
    children: NotRequired[dict[State, int]]
    left_out: NotRequired[dict[AlertKind, int]]


class AlertBody(TypedDict):
    """The body of a webhook. `timestamp` is when it happened, in UTC (RFC 3339)."""

    type: AlertKind
    timestamp: str
    data: AlertData


def new_id() -> str:
    """Return an id that no other alert has; receivers tell by it that they have one already."""
    return f"msg_{secrets.token_hex(12)}"


def utc(at: float) -> str:
    """Return Unix seconds as RFC 3339, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Alert:
    """One alert. `at` is when it happened, in Unix seconds; `id` stays the same however often it is sent."""

    kind: AlertKind
    at: float
    data: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)

    def body(self) -> bytes:
        """Return the JSON that is signed and sent: ASCII, whatever a profile's name is."""
        data = {"message": WORDS[self.kind], **self.data}
        return json.dumps({"type": self.kind, "timestamp": utc(self.at), "data": data}).encode("ascii")

"""HTTP between a coordinator and its child: paths, headers, and the body of the child's `/ready`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

TOKEN_HEADER: Final = "x-tabfleet-token"  # noqa: S105 - the header's name
"""Authorises the coordinator at one start of a child, beside any API key."""

MODEL_HEADER: Final = "x-tabfleet-model"
"""The model that a coordinator means, percent-encoded, where the body names it by an alias or with its site."""

REQUEST_ID_HEADER: Final = "x-request-id"
READY_PATH: Final = "/ready"
SCREENSHOT_PATH: Final = "/screenshot"
CANCEL_PATH: Final = "/requests/{request_id}/cancel"
MOST_SITE_FILE_BYTES: Final = 1024 * 1024
CANCEL_TIMEOUT_S: Final = 5.0
"""How long a child takes at most to confirm that a cancelled request's page is fresh."""


_MOST_MODELS: Final = 1000  # every lease looks at each
_LARGEST_COUNT: Final = 2**53  # where a float, as metrics are, no longer counts by one


class UnreadyReason(StrEnum):
    """Why a child's page cannot take a prompt."""

    STARTING = "starting"
    BROWSER_LOST = "browser_lost"
    LOGIN_EXPIRED = "login_expired"
    PAGE_BROKEN = "page_broken"
    SITE_UNREACHABLE = "site_unreachable"
    PROXY_UNREACHABLE = "proxy_unreachable"
    PROXY_REFUSED = "proxy_refused"
    QUOTA = "quota"


AWAY: Final = frozenset({UnreadyReason.SITE_UNREACHABLE, UnreadyReason.PROXY_UNREACHABLE, UnreadyReason.PROXY_REFUSED})
"""Reasons for which the child is not to blame: it waits until they pass, and a restart would bring nothing back."""


@dataclass(frozen=True)
class SessionReport:
    """How a start has saved its login's session: how often, how often it failed, and what is in the way now.

    `saved_at` is in Unix seconds, of an earlier start too; `trouble` completes "the saved session of ann ...".
    """

    saves: int = 0
    failures: int = 0
    saved_at: float | None = None
    trouble: str | None = None

    @classmethod
    def from_json(cls, body: object) -> SessionReport | None:
        """Return what a child said, None if it said nothing of it; fields of another type count as absent."""
        if not isinstance(body, dict):
            return None
        saves, failures = _count(body.get("saves")), _count(body.get("failures"))
        return cls(saves, failures, _number(body.get("saved_at")), _text(body.get("trouble")))


@dataclass(frozen=True)
class Readiness:
    """The body of a child's `/ready`. `reason` is None exactly if the page can take a prompt, or is busy with one.

    `instance_id` and `generation` are those the coordinator gave at the start; `login_expires_at` is in Unix seconds;
    `rest_s` is how long the site's quota still lasts, in seconds. `login_kept` tells that the child refreshes the login
    before it expires, or logs in again by itself; `refreshes` and `refresh_failures` count from the child's start;
    `warning` is a line for people about what keeps nobody from using the page; `asleep` tells that the page is closed
    while it is idle, and opens with the next request.
    """

    reason: UnreadyReason | None
    detail: str | None = None
    instance_id: str | None = None
    generation: int | None = None
    busy: bool = False
    models: tuple[str, ...] = ()
    site: str = ""
    engine: str = ""
    capture: str | None = None
    login_expires_at: float | None = None
    rest_s: float | None = None
    session: SessionReport | None = None
    login_kept: bool = False
    refreshes: int = 0
    refresh_failures: int = 0
    warning: str | None = None
    asleep: bool = False

    @property
    def status_code(self) -> int:
        """The HTTP status of `/ready`: 200 or 503."""
        return 200 if self.reason is None else 503

    def to_json(self) -> dict[str, Any]:
        """Return the body as JSON values; `status` says in a word what `reason` says more exactly."""
        return {"status": "ready" if self.reason is None else "unready", **asdict(self)}

    @classmethod
    def from_json(cls, status: int, body: Mapping[str, Any]) -> Readiness | None:
        """Return what a child said with this HTTP status; None if it gives a reason that is none of ours.

        Fields of another type than expected count as absent: the process on that port may be no child.
        """
        ready = status == 200 and body.get("status") == "ready"
        try:
            reason = None if ready else UnreadyReason(str(body.get("reason")))
        except ValueError:
            return None
        models, generation = body.get("models"), body.get("generation")
        return cls(
            reason,
            detail=_text(body.get("detail")),
            instance_id=_text(body.get("instance_id")),
            generation=generation if type(generation) is int else None,
            busy=body.get("busy") is True,
            models=tuple(filter(None, map(_text, models[:_MOST_MODELS]))) if isinstance(models, list) else (),
            site=_text(body.get("site")) or "",
            engine=_text(body.get("engine")) or "",
            capture=_text(body.get("capture")),
            login_expires_at=_number(body.get("login_expires_at")),
            rest_s=_number(body.get("rest_s")),
            session=SessionReport.from_json(body.get("session")),
            login_kept=body.get("login_kept") is True,
            refreshes=_count(body.get("refreshes")),
            refresh_failures=_count(body.get("refresh_failures")),
            warning=_text(body.get("warning")),
            asleep=body.get("asleep") is True,
        )


def _text(value: object) -> str | None:
    """Return a text, its beginning if it is long; what UTF-8 cannot express is replaced, for it is shown and logged."""
    return value[:500].encode(errors="replace").decode() if isinstance(value, str) else None


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < _LARGEST_COUNT else 0


def _number(value: object) -> float | None:
    """Return a finite number; JSON as Python reads it may hold infinity, and whole numbers too large for a float."""
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None

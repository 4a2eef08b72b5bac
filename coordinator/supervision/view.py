"""A child as it is shown to people and orchestrators."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coordinator.supervision.lifecycle import Reason, State


@dataclass(frozen=True)
class ChildView:
    """A child as `/ready` and the admin routes show it. Times are seconds since 1970.

    `capture` is the way by which it reads answers, once its page has shown that it works: see `browser.capture`.
    """

    name: str
    state: State
    reason: Reason | None
    detail: str | None
    since: float
    restarts: int
    in_flight: int
    models: tuple[str, ...]
    login_expires_at: float | None
    capture: str | None
    generation: int
    pid: int | None
    slot: int | None

    def public(self) -> dict[str, Any]:
        """Return what may be shown without a key: no path, no line of a log."""
        shown = ("name", "state", "reason", "since", "restarts", "in_flight", "models", "login_expires_at", "capture")
        return {key: getattr(self, key) for key in shown}

    def private(self) -> dict[str, Any]:
        """Return everything, for key holders."""
        return asdict(self)

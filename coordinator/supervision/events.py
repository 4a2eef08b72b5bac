"""What happens in the fleet, as frozen details handed to hooks.

Logging, metrics and tests are hooks: the supervisor knows none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import structlog

from coordinator.supervision.lifecycle import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from coordinator.supervision.lifecycle import Event, Phase, Reason

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class FleetEvent:
    """Base: which child, and which of its starts (0 before the first)."""

    log_name: ClassVar[str] = ""
    child: str
    generation: int


@dataclass(frozen=True)
class ChildMoved(FleetEvent):
    """The child went from one phase to another; `cause` is the event of the table."""

    log_name: ClassVar[str] = "child_state"
    old: Phase
    new: Phase
    cause: Event
    reason: Reason | None
    detail: str | None


@dataclass(frozen=True)
class ChildStarted(FleetEvent):
    """The child's process exists."""

    log_name: ClassVar[str] = "child_started"
    pid: int | None
    url: str


@dataclass(frozen=True)
class ChildReady(FleetEvent):
    """The child is READY for the first time in this start, `start_s` seconds after it began."""

    log_name: ClassVar[str] = "child_ready"
    start_s: float


@dataclass(frozen=True)
class ChildExited(FleetEvent):
    """The child's process has ended, `expected` if it had been told to.

    `exit_code` is None if it never began to run; `last_lines` are of its output, redacted, and empty
    for an expected end.
    """

    log_name: ClassVar[str] = "child_exited"
    exit_code: int | None
    reason: Reason
    expected: bool
    lived_s: float
    ready_s: float
    last_lines: tuple[str, ...]


@dataclass(frozen=True)
class ChildCleaned(FleetEvent):
    """Nothing of the child is left; `killed` processes had outlived it. `took_s` counts from the exit."""

    log_name: ClassVar[str] = "child_cleaned"
    killed: int
    took_s: float


@dataclass(frozen=True)
class RestartPlanned(FleetEvent):
    """The child will be started again in `delay_s` seconds, after `short_lives` short lives in a row."""

    log_name: ClassVar[str] = "child_restart_planned"
    delay_s: float
    short_lives: int


class Hooks:
    """Hands each event to every hook; one that fails is logged and does not stop the others."""

    def __init__(self, hooks: Iterable[Callable[[FleetEvent], None]] = ()) -> None:
        self._hooks = tuple(hooks)

    def emit(self, event: FleetEvent) -> None:
        for hook in self._hooks:
            try:
                hook(event)
            except Exception:
                log.exception("hook_failed", hook=getattr(hook, "__name__", str(hook)))


_LOUD = frozenset({State.FAILED, State.UNHEALTHY, State.RESTING})


def log_event(event: FleetEvent) -> None:
    """The hook that writes the log: one stable name per kind of event, its fields as they are."""
    fields = {key: value for key, value in asdict_shallow(event).items() if value is not None}
    log.log(_level(event), event.log_name, **fields)


def asdict_shallow(event: FleetEvent) -> dict[str, object]:
    """Return the event's fields, phases as text."""
    return {key: str(value) if key in ("old", "new") else value for key, value in vars(event).items()}


def _level(event: FleetEvent) -> int:
    match event:
        case ChildMoved(new=phase) if phase.state in _LOUD:
            return 30
        case ChildExited(expected=False):
            return 30
        case ChildCleaned(killed=0):
            return 10
    return 20

"""What supervision tells of its children: each event as it happens, handed to hooks, and how a child stands.

Logging, metrics and tests are hooks: the supervisor knows none of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import structlog

from contract.child_api import SessionReport
from coordinator.supervision.lifecycle import Event, Phase, Reason, State

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


@dataclass(frozen=True)
class SessionReported(FleetEvent):
    """The child has told something new of the saving of its login's session; counts are since it last told."""

    log_name: ClassVar[str] = "child_session"
    report: SessionReport
    new_saves: int
    new_failures: int


@dataclass(frozen=True)
class LoginExpires(FleetEvent):
    """The child's login expires at `expires_at`, in Unix seconds: `left_s` are left, below 0 where it is over.

    It is told when that comes within the days of the warning, and again each time that half of the rest is over.
    """

    log_name: ClassVar[str] = "login_expires"
    expires_at: float
    left_s: float


@dataclass(frozen=True)
class LoginRefreshed(FleetEvent):
    """The child has tried to refresh its login since it was last asked: so many times with success, and without."""

    log_name: ClassVar[str] = "login_refreshes"
    refreshed: int
    failed: int


@dataclass(frozen=True)
class PageChanged(FleetEvent):
    """A site's page is not what its site file says: two checks have found so, the last one on this child.

    All of it stands in the site file, and nothing comes from the page. `line` counts from 1; `key` is the path of a key
    in the file, and `selector` its value.
    """

    log_name: ClassVar[str] = "site_changed"
    site: str
    file: str
    line: int | None
    key: str | None
    selector: str | None
    step: str | None
    message: str


@dataclass(frozen=True)
class PageRecovered(FleetEvent):
    """A site's page is what its site file says again, by the page or by another file."""

    log_name: ClassVar[str] = "site_recovered"
    site: str
    file: str


class PublicStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A child as `/ready` shows it, which nobody needs a key for: no path, no line of a log. Times are Unix seconds.

    `login_kept` tells that the child refreshes its login in time, or logs in again; `warnings` are lines for people.
    `capture` is the way by which it reads answers, once its page has shown that it works: see `browser.capture`. `site`
    is the name of its site where there is a fleet file. `asleep` tells that its page is closed while it is idle.
    `held_by` is the cell that has the claim of its login, where another one has it.

    A msgspec struct: `/ready` makes one of each child and encodes it, a thousand times perhaps.
    """

    name: str
    state: State
    reason: Reason | None
    since: float
    restarts: int
    in_flight: int
    models: tuple[str, ...]
    login_expires_at: float | None
    login_kept: bool
    warnings: tuple[str, ...]
    capture: str | None
    site: str | None = None
    asleep: bool = False
    held_by: str | None = None

    @property
    def is_elsewhere(self) -> bool:
        """Whether another cell has its login, and tells of it."""
        return self.held_by is not None


class ChildStatus(PublicStatus, frozen=True, kw_only=True, gc=False):
    """All that is known of a child, for the fleet itself and for key holders."""

    detail: str | None
    generation: int
    pid: int | None
    slot: int | None

    def private(self) -> dict[str, Any]:
        """Return everything, for key holders."""
        return msgspec.structs.asdict(self)


class Hooks:
    """Hands each event to every hook; one that fails is logged and does not stop the others."""

    def __init__(self, hooks: Iterable[Callable[[FleetEvent], None]] = ()) -> None:
        self._hooks = tuple(hooks)

    def emit(self, event: FleetEvent) -> None:
        """Hand the event to every hook, in order."""
        for hook in self._hooks:
            try:
                hook(event)
            except Exception:
                log.exception("hook_failed", hook=getattr(hook, "__name__", str(hook)))


_WARNED_OF = frozenset({State.FAILED, State.UNHEALTHY, State.RESTING})


def log_event(event: FleetEvent) -> None:
    """Write the event to the log: one stable name per kind of event, its fields as they are, phases as text."""
    match event:
        case ChildMoved(new=phase) if phase.state in _WARNED_OF:
            level = logging.WARNING
        case ChildExited(expected=False) | PageChanged():
            level = logging.WARNING
        # Of a login's end there is one line a day, and of its refreshes the child's own.
        case ChildCleaned(killed=0) | LoginExpires() | LoginRefreshed() | SessionReported():
            level = logging.DEBUG
        case _:
            level = logging.INFO
    shown = {name: str(value) if isinstance(value, Phase) else value for name, value in vars(event).items()}
    log.log(level, event.log_name, **{name: value for name, value in shown.items() if value is not None})

"""A child's life as one table: pure, no I/O and no clock of its own.

Every change of state goes through `advance`, which knows nothing but `TRANSITIONS`. States with exactly
one process: `LIVE`. DRAINING and STOPPING carry the state that follows the exit in `Phase.next`, so that
resting, replacing, restarting and shutting down are one path and not four.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from contract import child_api
from contract.exit_codes import ExitCode
from coordinator.errors import IllegalTransition


class State(StrEnum):
    """Where a child is in its life."""

    STANDBY = "STANDBY"
    STARTING = "STARTING"
    READY = "READY"
    UNHEALTHY = "UNHEALTHY"
    DRAINING = "DRAINING"
    STOPPING = "STOPPING"
    BACKOFF = "BACKOFF"
    RESTING = "RESTING"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


class Event(StrEnum):
    """What can happen to a child."""

    SLOT_FREE = "slot_free"
    DELAY_OVER = "delay_over"
    PROBE_OK = "probe_ok"  # in UNHEALTHY: the HEALTHY_AFTER-th in a row
    PROBE_FAILED = "probe_failed"  # the UNHEALTHY_AFTER-th in a row
    START_DEADLINE = "start_deadline"
    UNHEALTHY_TIMEOUT = "unhealthy_timeout"
    LOGIN_EXPIRED = "login_expired"
    QUOTA = "quota"
    PROFILE_CHANGED = "profile_changed"
    RESTART = "restart"
    MEMORY_LIMIT = "memory_limit"
    PROFILE_GONE = "profile_gone"
    SHUTDOWN = "shutdown"
    DRAIN = "drain"  # the operator takes the child out; RESET brings it back
    IDLE = "idle"
    DRAIN_DEADLINE = "drain_deadline"
    EXITED = "exited"
    EXITED_FOR_GOOD = "exited_for_good"  # an exit that no restart can cure
    CRASH_LOOP = "crash_loop"  # one short life too many: tried again, but slowly
    REST_OVER = "rest_over"
    RESET = "reset"
    CLAIM_LOST = "claim_lost"  # another cell may have the login from now on: its browser ends at once
    CLAIMED_RESTING = "claimed_resting"  # claimed from a cell where it rested
    CLAIMED_FAILED = "claimed_failed"  # claimed from a cell where it had failed


class Reason(StrEnum):
    """Why a child is not READY, as `/ready`, logs and metrics name it. A closed set: labels stay bounded."""

    STARTING = "starting"
    BROWSER_LOST = "browser_lost"
    DRIVER_LOST = "driver_lost"
    LOGIN_EXPIRED = "login_expired"
    PAGE_BROKEN = "page_broken"
    SITE_UNREACHABLE = "site_unreachable"
    PROXY_UNREACHABLE = "proxy_unreachable"
    PROXY_REFUSED = "proxy_refused"
    QUOTA = "quota"
    CRASHED = "crashed"
    KILLED = "killed"
    EXITED = "exited"
    SPAWN_FAILED = "spawn_failed"
    CONFIG_ERROR = "config_error"
    BROWSER_MISSING = "browser_missing"
    PARENT_GONE = "parent_gone"
    PORT_TAKEN = "port_taken"
    PROFILE_LOCKED = "profile_locked"
    CLAIM_LOST = "claim_lost"
    CRASH_LOOP = "crash_loop"
    START_TIMEOUT = "start_timeout"
    UNHEALTHY_TIMEOUT = "unhealthy_timeout"
    PROBE_FAILED = "probe_failed"
    CANCEL_FAILED = "cancel_failed"
    MEMORY_LIMIT = "memory_limit"
    PROFILE_CHANGED = "profile_changed"
    PROFILE_GONE = "profile_gone"
    RESTART = "restart"
    DRAINED = "drained"
    SHUTDOWN = "shutdown"
    WAITING = "waiting_for_slot"
    CLAIMED_ELSEWHERE = "claimed_elsewhere"
    MOVED = "moved"


AWAY: Final = frozenset(map(Reason, child_api.AWAY))
"""Reasons that pass by themselves, and that no restart cures."""


@dataclass(frozen=True)
class Phase:
    """A state, and for DRAINING and STOPPING the state that follows when the process has exited."""

    state: State
    next: State | None = None

    def __post_init__(self) -> None:
        allowed = _NEXT.get(self.state, (None,))
        if self.next not in allowed:
            raise ValueError(f"{self.state} cannot have next={self.next}")

    def __str__(self) -> str:
        return f"{self.state}({self.next})" if self.next else str(self.state)


_AFTER_DRAIN = (State.STANDBY, State.RESTING, State.FAILED, State.STOPPED)
_NEXT: Final[Mapping[State, tuple[State | None, ...]]] = {
    State.DRAINING: _AFTER_DRAIN,
    State.STOPPING: (*_AFTER_DRAIN, State.BACKOFF),
}

LIVE: Final = frozenset({State.STARTING, State.READY, State.UNHEALTHY, State.DRAINING, State.STOPPING})
PHASES: Final = tuple(Phase(state, after) for state in State for after in _NEXT.get(state, (None,)))
FIRST: Final = Phase(State.STANDBY)


def _phases(*states: State) -> tuple[Phase, ...]:
    return tuple(phase for phase in PHASES if phase.state in states)


def _to(state: State, after: State | None = None) -> Callable[[Phase], Phase]:
    target = Phase(state, after)
    return lambda _: target


def _then(after: State) -> Callable[[Phase], Phase]:
    return lambda phase: replace(phase, next=after)


def _next(phase: Phase) -> Phase:
    assert phase.next is not None  # noqa: S101 - only used for phases that have one
    return Phase(phase.next)


_RUNNING = _phases(State.STARTING, State.READY, State.UNHEALTHY)
_SERVING = _phases(State.READY, State.UNHEALTHY)
_ENDING = _phases(State.DRAINING, State.STOPPING)
_RETRACTABLE = tuple(p for p in _ENDING if p.next in (State.BACKOFF, State.RESTING, State.FAILED))
_LEAVING = tuple(p for p in _ENDING if p.next is State.STOPPED)
_RETURNING = tuple(p for p in _ENDING if p.next is not State.STOPPED)
_REPLACE = (Event.PROFILE_CHANGED, Event.RESTART)
_STOP = (Event.PROFILE_GONE, Event.SHUTDOWN, Event.DRAIN)

_ROWS: Final[tuple[tuple[Iterable[Phase], tuple[Event, ...], Callable[[Phase], Phase]], ...]] = (
    (_phases(State.STANDBY), (Event.SLOT_FREE,), _to(State.STARTING)),
    (_phases(State.STARTING, State.UNHEALTHY), (Event.PROBE_OK,), _to(State.READY)),
    (_phases(State.STARTING), (Event.START_DEADLINE,), _to(State.STOPPING, State.BACKOFF)),
    (_phases(State.READY), (Event.PROBE_FAILED,), _to(State.UNHEALTHY)),
    (_phases(State.UNHEALTHY), (Event.UNHEALTHY_TIMEOUT,), _to(State.STOPPING, State.BACKOFF)),
    (_RUNNING, (Event.LOGIN_EXPIRED,), _to(State.DRAINING, State.FAILED)),
    (_RUNNING, (Event.QUOTA,), _to(State.DRAINING, State.RESTING)),
    (_SERVING, (Event.MEMORY_LIMIT,), _to(State.DRAINING, State.STANDBY)),
    # A child that is still starting has nothing to finish, and passes through DRAINING at once.
    (_RUNNING, _REPLACE, _to(State.DRAINING, State.STANDBY)),
    (_RUNNING, _STOP, _to(State.DRAINING, State.STOPPED)),
    # What is on its way out stays so; only what comes afterwards can still be changed.
    (_RETRACTABLE, _REPLACE, _then(State.STANDBY)),
    (_RETURNING, _STOP, _then(State.STOPPED)),
    (_phases(State.DRAINING), (Event.IDLE, Event.DRAIN_DEADLINE), lambda phase: Phase(State.STOPPING, phase.next)),
    (_RUNNING, (Event.EXITED,), _to(State.BACKOFF)),
    (_RUNNING, (Event.EXITED_FOR_GOOD,), _to(State.FAILED)),
    (_RUNNING, (Event.CRASH_LOOP,), _to(State.RESTING)),
    (_ENDING, (Event.EXITED,), _next),
    (_phases(State.BACKOFF), (Event.DELAY_OVER,), _to(State.STARTING)),
    (_phases(State.RESTING), (Event.REST_OVER,), _to(State.STANDBY)),
    (_phases(State.RESTING, State.FAILED), (Event.RESET, Event.PROFILE_CHANGED), _to(State.STANDBY)),
    (_phases(State.STOPPED), (Event.RESET,), _to(State.STANDBY)),
    (
        _phases(State.STANDBY, State.BACKOFF, State.RESTING, State.FAILED),
        _STOP,
        _to(State.STOPPED),
    ),
    # Whoever has the claim now decides on it: neither a rest nor a failure stays here.
    ((*_RUNNING, *_RETURNING), (Event.CLAIM_LOST,), _to(State.STOPPING, State.STANDBY)),
    (_LEAVING, (Event.CLAIM_LOST,), _to(State.STOPPING, State.STOPPED)),
    (_phases(State.BACKOFF, State.RESTING, State.FAILED), (Event.CLAIM_LOST,), _to(State.STANDBY)),
    (_phases(State.STANDBY), (Event.CLAIMED_RESTING,), _to(State.RESTING)),
    (_phases(State.STANDBY), (Event.CLAIMED_FAILED,), _to(State.FAILED)),
)


def _build() -> dict[tuple[Phase, Event], Phase]:
    table: dict[tuple[Phase, Event], Phase] = {}
    for phases, events, target in _ROWS:
        for phase, event in itertools.product(phases, events):
            if (phase, event) in table:
                raise ValueError(f"two rows for {phase} and {event}")
            table[phase, event] = target(phase)
    return table


TRANSITIONS: Final[Mapping[tuple[Phase, Event], Phase]] = _build()


def allows(phase: Phase, event: Event) -> bool:
    """Whether the table has a transition for this event in this phase."""
    return (phase, event) in TRANSITIONS


def advance(phase: Phase, event: Event) -> Phase:
    """Return the phase that follows. Raises IllegalTransition if the table has none."""
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise IllegalTransition(f"A child that is {phase} cannot take the event {event}.") from None


STEADY_AFTER_S: Final = 60.0
"""A child that was READY this long has recovered: its next restart is at once, its count starts anew."""


def short_lives_after(short_lives: int, ready_s: float) -> int:
    """Count ends in a row, each after less than STEADY_AFTER_S seconds of READY; 0 after a steady life."""
    return 0 if ready_s >= STEADY_AFTER_S else short_lives + 1


SUSPECT_AFTER: Final = 2
"""A child with so many short lives in a row may be the one that ends browsers: `suspects` says where it starts.

Those that it has shared a browser with have as many. Alone theirs last, so that they share again at their next start.
It lies far below the short lives of a crash loop: nobody rests for what another login does.
"""


def backoff_s(short_lives: int, *, rand: Callable[[], float], base_s: float = 0.5, max_s: float = 60.0) -> float:
    """Seconds to wait before the next start: doubling from base_s, capped at max_s, none for 0 short lives.

    `rand` returns a number in [0, 1); the delay lies between a half and the whole of the step ("equal
    jitter"), so that children that died together do not come back together.
    """
    if short_lives == 0:
        return 0.0
    step = min(max_s, base_s * 2.0 ** min(short_lives - 1, 32))
    return step * (0.5 + 0.5 * rand())


_EXIT_REASONS: Final[Mapping[int, Reason]] = {
    ExitCode.STOPPED: Reason.EXITED,
    ExitCode.USAGE: Reason.CONFIG_ERROR,
    ExitCode.PORT_IN_USE: Reason.PORT_TAKEN,
    ExitCode.BROWSER_LOST: Reason.BROWSER_LOST,
    ExitCode.DRIVER_LOST: Reason.DRIVER_LOST,
    ExitCode.PROFILE_LOCKED: Reason.PROFILE_LOCKED,
    ExitCode.NO_BROWSER: Reason.BROWSER_MISSING,
    ExitCode.PARENT_GONE: Reason.PARENT_GONE,
    ExitCode.CLAIM_OVER: Reason.CLAIM_LOST,
}
_KILLING_SIGNALS: Final = frozenset({1, 2, 9, 15})

FATAL: Final = frozenset({Reason.CONFIG_ERROR, Reason.BROWSER_MISSING})
"""Exits that no restart can cure."""

CONTENDED: Final = frozenset({Reason.PORT_TAKEN, Reason.PROFILE_LOCKED, Reason.CLAIM_LOST})
"""Exits because another process holds the port or the login, or may hold it: retried for ever, never a crash loop."""


def exit_reason(exit_code: int) -> Reason:
    """Name an exit that nobody asked for. A negative code is the signal that ended the process."""
    if -exit_code in _KILLING_SIGNALS:
        return Reason.KILLED
    return _EXIT_REASONS.get(exit_code, Reason.CRASHED)


def exit_event(reason: Reason, short_lives: int, *, crash_loop_after: int) -> Event:
    """Decide whether an exit that nobody asked for leads to another start, to a long rest before it, or to FAILED."""
    if reason in FATAL:
        return Event.EXITED_FOR_GOOD
    looping = reason not in CONTENDED and short_lives >= crash_loop_after
    return Event.CRASH_LOOP if looping else Event.EXITED

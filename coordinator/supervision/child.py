"""One child: a profile, its phase in the table, and what each phase does."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from coordinator.supervision.child_run import Life
from coordinator.supervision.events import ChildExited, ChildMoved, ChildReady, Hooks, RestartPlanned
from coordinator.supervision.lifecycle import (
    FIRST,
    HOPELESS,
    LIVE,
    Event,
    Reason,
    State,
    advance,
    allows,
    backoff_s,
    exit_event,
    exit_reason,
    short_lives_after,
)
from coordinator.supervision.view import ChildView

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from coordinator.proxy.pool import Pool
    from coordinator.supervision.launcher import Launcher
    from coordinator.supervision.plan import Slot
    from coordinator.supervision.policy import Policy
    from coordinator.supervision.probe import ChildClient, Probed
    from coordinator.supervision.tasks import Tasks


class Profile(Protocol):
    """What supervision needs to know of a profile."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def sha256(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Shared:
    """What all children of a supervisor have in common."""

    launcher: Launcher
    pool: Pool
    client: ChildClient
    policy: Policy
    tasks: Tasks
    hooks: Hooks
    clock: Callable[[], float]  # seconds, monotonic
    wall: Callable[[], float]  # seconds since 1970
    rand: Callable[[], float]  # in [0, 1)
    settled: Callable[[], None]  # a slot or a place among the starting ones may have become free


class Child:
    """The owner of a phase. `fire` is the only way to change it; every step of it is synchronous."""

    def __init__(self, profile: Profile, shared: Shared) -> None:
        self.profile = profile
        self.name = profile.name
        self.shared = shared
        self.phase = FIRST
        self.reason: Reason | None = Reason.WAITING
        self.detail: str | None = None
        self.since = shared.wall()
        self.turn = shared.clock()  # who waited longest takes the next slot; 0 comes first
        self.slot: Slot | None = None
        self.life: Life | None = None
        self.lives: deque[Life] = deque(maxlen=4)  # earlier ones still answer for what was submitted
        self.clean = True  # nothing of the last life is left
        self.due = False  # the delay of BACKOFF is over
        self.leaving = False  # its profile is gone
        self.generation = 0
        self.short_lives = 0
        self.rest_s: float | None = None
        self.models: tuple[str, ...] = ()
        self.login_expires_at: float | None = None
        self.capture: str | None = None
        self._ready_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    # What it is

    @property
    def holds(self) -> bool:
        """Whether it needs its slot and its login: until its old browser is reaped, and for a restart."""
        return self.phase.state in LIVE or self.phase.state is State.BACKOFF or not self.clean

    @property
    def startable(self) -> bool:
        state = self.phase.state
        return self.clean and (state is State.STANDBY or (state is State.BACKOFF and self.due))

    def view(self) -> ChildView:
        process = self.life.process if self.life else None
        return ChildView(
            name=self.name,
            state=self.phase.state,
            reason=self.reason,
            detail=self.detail,
            since=self.since,
            restarts=max(0, self.generation - 1),
            in_flight=self.life.backend.in_flight if self.life else 0,
            models=self.models,
            login_expires_at=self.login_expires_at,
            capture=self.capture,
            generation=self.generation,
            pid=process.pid if process and self.phase.state in LIVE else None,
            slot=self.slot.index if self.slot else None,
        )

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines of its output in this start, or in the one that has ended; redacted."""
        return self.life.process.last_lines() if self.life and self.life.process else ()

    # What happens to it

    def fire(
        self,
        event: Event,
        reason: Reason | None = None,
        detail: str | None = None,
        *,
        generation: int | None = None,
    ) -> bool:
        """Take an event; return whether the table had a transition for it.

        Events that the present phase has no use for, and those of another `generation`, change nothing.
        """
        stale = generation is not None and generation != self.generation
        if stale or not allows(self.phase, event):
            return False
        old, self.phase = self.phase, advance(self.phase, event)
        if reason is not None:
            self.reason, self.detail = reason, detail
        if self.phase.state is State.READY:
            self.reason = self.detail = None
        self.shared.hooks.emit(ChildMoved(self.name, self.generation, old, self.phase, event, self.reason, self.detail))
        if self.phase.state is not old.state:
            self._left(old.state)
            self._entered(old.state)
        return True

    def start(self, slot: Slot) -> None:
        """Begin a new life on this slot, which is its own; it is `startable`."""
        self.slot = slot
        event = Event.SLOT_FREE if self.phase.state is State.STANDBY else Event.DELAY_OVER
        self.fire(event, Reason.STARTING)

    def change_profile(self, profile: Profile) -> None:
        """Go over to another version of the profile, after the running answer."""
        self.profile = profile
        self.fire(Event.PROFILE_CHANGED, Reason.PROFILE_CHANGED)
        self.hurry()

    def hurry(self) -> None:
        """Cut the delay before a restart short."""
        if self.phase.state is State.BACKOFF:
            self.short_lives = 0
            self._delay_over()

    def learn(self, seen: Probed) -> None:
        """Remember what a probe told, for views and for routing."""
        if seen.models is not None and seen.models != self.models and self.life:
            self.models = seen.models
            backend = self.life.backend
            self.shared.pool.set_ready(backend, ready=backend.ready, models=self.models)
        if seen.ok:
            self.login_expires_at, self.capture = seen.login_expires_at, seen.capture

    def explain(self, reason: Reason | None, detail: str | None) -> None:
        """Say more exactly why it is not ready, without a transition."""
        self.reason, self.detail = reason, detail

    def exited(self, life: Life, exit_code: int | None, detail: str | None) -> None:
        """Its process has ended (`exit_code` None: never began). Parts of it may still have to be killed."""
        state = self.phase.state
        expected = state in (State.DRAINING, State.STOPPING)
        reason = Reason.SPAWN_FAILED if exit_code is None else exit_reason(exit_code)
        ready_s = life.ready_s + self._ready_for()
        self.short_lives = short_lives_after(self.short_lives, ready_s)
        self.shared.hooks.emit(
            ChildExited(
                self.name,
                life.spec.generation,
                exit_code,
                reason,
                expected=expected,
                lived_s=self.shared.clock() - life.began,
                ready_s=ready_s,
                last_lines=() if expected else self.last_lines(),
            )
        )
        if expected:
            self.fire(Event.EXITED)
        else:
            self._died(reason, detail)

    def cleaned(self) -> None:
        """Nothing of its last life is left; slot, lock and login are free."""
        self.clean = True
        if self.life:
            self.life.gone.set()
        self.shared.settled()

    def _died(self, reason: Reason, detail: str | None) -> None:
        limit = self.shared.policy.crash_loop_after
        event = exit_event(reason, self.short_lives, crash_loop_after=limit)
        if event is Event.EXITED_FOR_GOOD and reason not in HOPELESS:
            detail = f"{self.short_lives} short lives in a row, the last ended by: {reason}"
            reason = Reason.CRASH_LOOP
        self.fire(event, reason, detail)

    # Phases

    def _left(self, state: State) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if state is State.READY and self.life:
            self.life.ready_s += self._ready_for()
            self._ready_since = None
            self.shared.pool.set_ready(self.life.backend, ready=False)

    def _entered(self, old: State) -> None:
        self.since = self.shared.wall()
        match self.phase.state:
            case State.STARTING:
                self._begin()
            case State.READY:
                self._serve()
            case State.UNHEALTHY:
                wait_s = self.shared.policy.unhealthy_timeout_s
                self._after(wait_s, self._unhealthy_too_long)
            case State.DRAINING:
                self._drain()
            case State.STOPPING:
                self._stop()
            case State.BACKOFF:
                self._back_off()
            case State.RESTING:
                self._rest()
            case State.STANDBY:
                self._stand_by(old)
        self.shared.settled()

    def _begin(self) -> None:
        assert self.slot is not None  # noqa: S101 - start() gave it one
        self.generation += 1
        self.due = self.clean = False
        self.life = Life(self, self.slot, self.generation)
        self.lives.appendleft(self.life)
        self.shared.pool.put(self.life.backend)
        self.life.begin()
        self._after(self.shared.policy.start_timeout_s, self._start_deadline)

    def _start_deadline(self) -> None:
        self.fire(Event.START_DEADLINE, Reason.START_TIMEOUT, self.detail or f"still {self.reason}")

    def _unhealthy_too_long(self) -> None:
        self.fire(Event.UNHEALTHY_TIMEOUT, Reason.UNHEALTHY_TIMEOUT, self.detail or f"still {self.reason}")

    def _serve(self) -> None:
        assert self.life is not None  # noqa: S101 - only a life's probe leads here
        self._ready_since = self.shared.clock()
        if self.life.first_ready_at is None:
            self.life.first_ready_at = self._ready_since
            start_s = self._ready_since - self.life.began
            self.shared.hooks.emit(ChildReady(self.name, self.generation, start_s))
        self.shared.pool.set_ready(self.life.backend, ready=True)

    def _ready_for(self) -> float:
        return 0.0 if self._ready_since is None else self.shared.clock() - self._ready_since

    def _drain(self) -> None:
        life = self.life
        if life is None or not life.backend.in_flight:
            self.fire(Event.IDLE)
            return
        self._after(self.shared.policy.drain_timeout_s, self.fire, Event.DRAIN_DEADLINE)
        self.shared.tasks.spawn(self._when_idle(life), f"drain {self.name}")

    async def _when_idle(self, life: Life) -> None:
        await self.shared.pool.wait_idle(life.backend)
        self.fire(Event.IDLE, generation=life.spec.generation)

    def _stop(self) -> None:
        if self.life is not None:
            self.life.terminate()
            self._after(self.shared.policy.term_grace_s, self.life.kill)

    def _back_off(self) -> None:
        policy = self.shared.policy
        delay_s = backoff_s(
            self.short_lives,
            rand=self.shared.rand,
            base_s=policy.backoff_base_s,
            max_s=policy.backoff_max_s,
        )
        self.shared.hooks.emit(RestartPlanned(self.name, self.generation, delay_s, self.short_lives))
        if delay_s:
            self._after(delay_s, self._delay_over)
        else:
            self._delay_over()

    def _delay_over(self) -> None:
        self.due = True
        self.shared.settled()

    def _rest(self) -> None:
        policy = self.shared.policy
        asked_s = policy.rest_default_s if self.rest_s is None else max(0.0, self.rest_s)
        self._after(min(asked_s, policy.rest_max_s), self.fire, Event.REST_OVER, Reason.WAITING)

    def _stand_by(self, old: State) -> None:
        replaced = old in LIVE
        self.turn = 0.0 if replaced else self.shared.clock()
        self.short_lives = 0

    def _after(self, delay_s: float, action: Callable[..., object], *args: object) -> None:
        def act() -> None:
            try:
                action(*args)
            except Exception as error:  # noqa: BLE001 - reported; the loop would only log it
                self.shared.tasks.fail(f"timer of {self.name}", error)

        self._timer = asyncio.get_running_loop().call_later(delay_s, act)

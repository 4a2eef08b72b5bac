"""One child through all its starts.

The names of what runs, each with one meaning:

Profile        a login file, as supervision needs to know it
Child          what is supervised: there for as long as its profile is, with a phase in the table of `lifecycle`
ChildRun       one start of a child, until nothing of it is left; a restarted child has a new run
ChildSpec      what a launcher is given for a run
ChildProcess   what a launcher gives back
Backend        a run as the pool of requests sees it
Slot           the ports of one running child; a child holds one only while it needs it
start permit   the right to be one of the few children that start at the same time
PublicStatus   a child as it is shown to people and orchestrators; ChildStatus is the same with what needs a key
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from contract.child_api import Readiness, SessionReport, UnreadyReason
from coordinator.proxy.pool import Pool
from coordinator.supervision.child_client import ChildClient
from coordinator.supervision.child_run import ChildRun
from coordinator.supervision.claim_note import ClaimNote
from coordinator.supervision.events import (
    ChildCleaned,
    ChildExited,
    ChildMoved,
    ChildReady,
    ChildStarted,
    ChildStatus,
    Hooks,
    LoginExpires,
    LoginRefreshed,
    PublicStatus,
    RestartPlanned,
    SessionReported,
)
from coordinator.supervision.health import Health
from coordinator.supervision.launcher import ChildProcess, ChildSpec, Company, Launcher, Profile, RenewedLogin
from coordinator.supervision.lifecycle import (
    AWAY,
    FIRST,
    LIVE,
    STEADY_AFTER_S,
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
from coordinator.supervision.login_expiry import LoginExpiry
from coordinator.supervision.policy import Policy
from coordinator.supervision.ports import Slot
from coordinator.supervision.ready_probe import ProbeResult
from coordinator.supervision.tasks import Tasks

log = structlog.get_logger(__name__)

_RUNS_KEPT = 4
"""Runs of a child that still answer for what was submitted to them, the present one included."""


@dataclass(frozen=True)
class Context:
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
    schedule: Callable[[], None]  # to be called when a slot or a start permit may have become free
    needs_claims: bool = False  # a login runs here only while this cell has its claim


class Child:
    """The owner of a phase. `fire` is the only way to change it; every step of it is synchronous."""

    def __init__(self, profile: Profile, context: Context) -> None:
        self.profile = profile
        self.name = profile.name
        self.phase = FIRST
        self.reason: Reason | None = Reason.WAITING
        self.detail: str | None = None
        self.since = context.wall()
        self.waiting_since = context.clock()
        """By the monotonic clock; who waited longest takes the next slot, and 0 comes first."""
        self.slot: Slot | None = None
        self.run: ChildRun | None = None
        self.runs: deque[ChildRun] = deque(maxlen=_RUNS_KEPT)
        self.generation = 0
        self.profile_gone = False
        self.renewed: RenewedLogin | None = None
        """A renewed login, which the next start takes over; kept until one has begun with it."""
        self.models: tuple[str, ...] = ()
        """Those that it serves: of its page's, what its login has."""
        self.login_expiry = LoginExpiry(context.policy.expiry_warning_days)
        self.warning: str | None = None
        """What the child itself warns of; it is no reason to be unready."""
        self._refreshes = (0, 0)
        """How many refreshes of this run's login were counted, with success and without."""
        self._page_models: tuple[str, ...] = ()
        self.capture: str | None = None
        self.asleep = False
        self.claimed = not context.needs_claims
        """Whether its login may run here."""
        self.holder: str | None = None
        """The cell that has its claim, where another one has it."""
        self._context = context
        self._health = Health(context.policy, context.clock)
        self._backoff_over = False
        self._company = Company.ANY
        self._short_lives = 0
        self._rest_s: float | None = None
        self._rest_until: float | None = None
        self._rest_left_s: float | None = None
        """What is left of a rest that has begun in another cell."""
        self._session: SessionReport | None = None
        self._timer: asyncio.TimerHandle | None = None

    # What it is

    @property
    def clean(self) -> bool:
        """Whether nothing of its last run is left."""
        return self.run is None or self.run.gone.is_set()

    @property
    def short_lives(self) -> int:
        """How many runs in a row ended before they were READY for long."""
        return self._short_lives

    @property
    def login_in_use(self) -> str | None:
        """The fingerprint of the login that a browser of it may still use; its profile may be another by now."""
        return None if self.run is None or self.clean else self.run.fingerprint

    @property
    def needs_slot(self) -> bool:
        """Whether it needs its slot and its login: until its old browser is gone, and for a restart."""
        return self.phase.state in LIVE or self.phase.state is State.BACKOFF or not self.clean

    @property
    def can_start(self) -> bool:
        """Whether it waits for nothing but a slot and a start permit."""
        state = self.phase.state
        return (
            self.clean and self.claimed and (state is State.STANDBY or (state is State.BACKOFF and self._backoff_over))
        )

    def public_status(self) -> PublicStatus:
        """Return the child as it is now, as anybody may see it."""
        run, expiry = self.run, self.login_expiry
        expires = None if expiry.expires_at is None else expiry.warning(self._context.wall())
        return PublicStatus(
            name=self.name,
            state=self.phase.state,
            reason=self.reason,
            since=self.since,
            restarts=max(0, self.generation - 1),
            in_flight=run.backend.in_flight if run else 0,
            models=self.models,
            login_expires_at=expiry.expires_at,
            login_kept=expiry.kept,
            warnings=tuple(line for line in (expires, self.warning) if line) if expires or self.warning else (),
            capture=self.capture,
            asleep=self.asleep,
            site=self.profile.login.site_name or None,
            held_by=self.holder,
        )

    def status(self) -> ChildStatus:
        """Return the child as it is now, with all that is known of it."""
        process = self.run.process if self.run and self.phase.state in LIVE else None
        return ChildStatus(
            **msgspec.structs.asdict(self.public_status()),
            detail=self.detail,
            generation=self.generation,
            pid=process.pid if process else None,
            slot=self.slot.index if self.slot else None,
        )

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines of its output in this run, or in the one that has ended; redacted."""
        return self.run.process.last_lines() if self.run and self.run.process else ()

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
        moved = ChildMoved(self.name, self.generation, old, self.phase, event, self.reason, self.detail)
        self._context.hooks.emit(moved)
        if self.phase.state is not old.state:
            self._leave(old.state)
            self._enter(old.state)
        return True

    def start(self, slot: Slot, company: Company = Company.ANY) -> None:
        """Begin a new run on this slot, in a browser with such company; the child is one that `can_start`."""
        self.slot, self._company = slot, company
        event = Event.SLOT_FREE if self.phase.state is State.STANDBY else Event.DELAY_OVER
        self.fire(event, Reason.STARTING)

    def differs(self, profile: Profile) -> bool:
        """Return whether a browser that runs for the present profile is the wrong one for this version of it."""
        return profile.sha256 != self.profile.sha256 or not profile.login.starts_like(self.profile.login)

    def change_routing(self, profile: Profile) -> None:
        """Take over what a version of the profile that needs no other browser says of models and weight."""
        old, self.profile = self.profile.login, profile
        if self.run is not None and profile.login != old:
            self.models = profile.login.serves(self._page_models)
            self._context.pool.change(self.run.backend, models=self.models, weight=profile.login.weight)

    def change_profile(self, profile: Profile) -> None:
        """Go over to another version of the profile, after the running answer."""
        if self._context.needs_claims and profile.fingerprint != self.profile.fingerprint:
            self.claimed = False  # the claim is for the login that it was
        self.profile = profile
        self.login_expiry = LoginExpiry(self._context.policy.expiry_warning_days)
        self.renewed = None  # it came of the version before
        self.fire(Event.PROFILE_CHANGED, Reason.PROFILE_CHANGED)
        self.skip_backoff()

    def skip_backoff(self) -> None:
        """Restart now if it waits to be restarted."""
        if self.phase.state is State.BACKOFF:
            self._short_lives = 0
            self._end_backoff()

    def cancel_failed(self, run: ChildRun) -> None:
        """Take the child out of routing until its page is seen free: a request was not confirmed to be cancelled."""
        if run is self.run:
            self._health.cancel_failed()
            self.fire(Event.PROBE_FAILED, Reason.CANCEL_FAILED)

    # Its claim

    def grant(self, note: ClaimNote | None) -> None:
        """Let its login run here: this cell has the claim. `note` is how the child stood where it was before."""
        self.claimed, self.holder = True, None
        if note is not None and note.sha256 != self.profile.sha256:
            note = None
        stopped = self.phase.state is State.STOPPED
        if stopped and (note is None or note.state is not State.STOPPED):
            self.fire(Event.RESET, Reason.WAITING)
        if self.phase.state is State.STANDBY:
            self.reason, self.detail = Reason.WAITING, None
        if note is not None:
            self._short_lives = note.short_lives
            match note.state:
                case State.RESTING:
                    left_s = (note.until or 0.0) - self._context.wall()
                    if left_s > 0:
                        self._rest_left_s = left_s
                        self.fire(Event.CLAIMED_RESTING, note.reason, note.detail)
                case State.FAILED:
                    self.fire(Event.CLAIMED_FAILED, note.reason, note.detail)
                case State.STOPPED:
                    self.fire(Event.DRAIN, Reason.DRAINED)
        self._context.schedule()

    def note(self) -> ClaimNote | None:
        """Return what the next holder of the claim has to know; None if there is nothing."""
        state = self.phase.state
        drained = state is State.STOPPED and self.reason is Reason.DRAINED
        steady = self._health.ready_s() >= STEADY_AFTER_S
        short_lives = 0 if steady else self._short_lives
        if state in (State.RESTING, State.FAILED) or drained:
            until = self._rest_until if state is State.RESTING else None
            return ClaimNote(self.profile.sha256, short_lives, state, self.reason, self.detail, until)
        return ClaimNote(self.profile.sha256, short_lives) if short_lives else None

    @property
    def has_note(self) -> bool:
        """Whether `note` says how it stands: not once it has ended with the coordinator or with its profile."""
        return self.phase.state is not State.STOPPED or self.reason is Reason.DRAINED

    def lose_claim(self) -> None:
        """End what runs of it at once: another cell may start its login from now on."""
        self.claimed = False
        self.fence()
        self.fire(Event.CLAIM_LOST, Reason.CLAIM_LOST)

    def fence(self) -> None:
        """End its process, if there is one, and what shares its browser; `lose_claim` is to follow."""
        if self.run is not None:
            self.run.fence()

    def give_up(self) -> None:
        """End it after its running answer; its claim is to be given back once it is clean."""
        self.claimed = False
        if not self.fire(Event.RESTART, Reason.MOVED):
            self.fire(Event.CLAIM_LOST, Reason.MOVED)  # nothing of it runs

    def held_by(self, cell: str | None) -> None:
        """Show which cell has its claim; None where no cell has it. It is for a child without a claim here."""
        self.holder = cell
        if self.phase.state is State.STANDBY:
            self.reason, self.detail = Reason.CLAIMED_ELSEWHERE if cell else Reason.WAITING, None

    # What its run reports

    def started(self, run: ChildRun, process: ChildProcess) -> None:
        """Tell of the process; the child is READY only when a probe says so."""
        if run.spec.renewed is self.renewed:
            self.renewed = None
        self._context.hooks.emit(ChildStarted(self.name, run.spec.generation, process.pid, process.url))

    def probed(self, run: ChildRun, result: ProbeResult) -> None:
        """Take one probe into account; fires at most one event."""
        if run.process is not None and not run.process.has_folder():
            detail = "its run folder is gone, as after a cleaner of temporary files"
            self.fire(Event.RESTART, Reason.RESTART, detail, generation=run.spec.generation)
            return
        if result.readiness is not None:
            self._remember(run, result.readiness)
        state, event = self.phase.state, self._health.judge(result, self.phase.state)
        if event is not None:
            self.fire(event, result.reason, result.detail, generation=run.spec.generation)
        elif result.reason is not None and (
            # No transition, but the reason may be more exact by now. That a child which starts does not answer
            # at first says nothing.
            state is State.UNHEALTHY or (state is State.STARTING and result.reason is not Reason.PROBE_FAILED)
        ):
            self.reason, self.detail = result.reason, result.detail
        if result.reason in AWAY:
            self._begin_limit()

    def _remember(self, run: ChildRun, seen: Readiness) -> None:
        # A child that does not know its models yet serves those it served before.
        self.warning, self.asleep = seen.warning, seen.asleep
        self._count_refreshes(run, seen)
        if seen.models and seen.models != self._page_models:
            self._page_models = seen.models
            self.models = self.profile.login.serves(seen.models)
            self._context.pool.change(run.backend, models=self.models)
        if seen.reason is None:
            self.capture = seen.capture
            if run.fingerprint == self.profile.fingerprint:  # else it is the login that is being replaced
                self.login_expiry.learn(seen.login_expires_at, kept=seen.login_kept)
        elif seen.reason is UnreadyReason.QUOTA:
            self._rest_s = seen.rest_s
        self._hear_of_session(run, seen.session)

    def _hear_of_session(self, run: ChildRun, report: SessionReport | None) -> None:
        old = self._session
        if report is None or report == old:
            return
        self._session = report
        if old is None:
            old = SessionReport()
        saves, failures = max(0, report.saves - old.saves), max(0, report.failures - old.failures)
        self._context.hooks.emit(SessionReported(self.name, run.spec.generation, report, saves, failures))

    def _count_refreshes(self, run: ChildRun, seen: Readiness) -> None:
        counted, now = self._refreshes, (seen.refreshes, seen.refresh_failures)
        if run is self.run and now != counted:
            self._refreshes = now
            refreshed, failed = (max(0, new - old) for new, old in zip(now, counted, strict=True))
            self._context.hooks.emit(LoginRefreshed(self.name, run.spec.generation, refreshed, failed))

    def look_at_login(self) -> None:
        """Tell that the login expires soon, and log it, if that is due."""
        login, now = self.login_expiry, self._context.wall()
        if login.log(now):
            log.warning("login_expires_soon", child=self.name, message=login.warning(now))
        if login.tell(now) and login.expires_at is not None:
            left_s = login.expires_at - now
            self._context.hooks.emit(LoginExpires(self.name, self.generation, login.expires_at, left_s))

    def exited(self, run: ChildRun, exit_code: int | None, detail: str | None) -> None:
        """Decide what follows the end of its process. Parts of it may still have to be killed."""
        expected = self.phase.state in (State.DRAINING, State.STOPPING)
        reason = Reason.SPAWN_FAILED if exit_code is None else exit_reason(exit_code)
        ready_s = self._health.ready_s()
        if reason is not Reason.CLAIM_LOST:  # which says nothing of the login
            self._short_lives = short_lives_after(self._short_lives, ready_s)
        self._context.hooks.emit(
            ChildExited(
                self.name,
                run.spec.generation,
                exit_code,
                reason,
                expected=expected,
                lived_s=self._context.clock() - run.began_at,
                ready_s=ready_s,
                last_lines=() if expected else self.last_lines(),
            )
        )
        if expected:
            self.fire(Event.EXITED)
            return
        event = exit_event(reason, self._short_lives, crash_loop_after=self._context.policy.crash_loop_after)
        if event is Event.CRASH_LOOP:
            retry_s = self._context.policy.crash_loop_retry_s
            detail = (
                f"{self._short_lives} short lives in a row, the last ended by: {reason}; "
                f"tried again about every {retry_s:g} s"
            )
            reason = Reason.CRASH_LOOP
        self.fire(event, reason, detail)

    def cleaned(self, run: ChildRun, killed: int, took_s: float) -> None:
        """Have slot and login given on: nothing of the run is left."""
        if run.process is not None:
            self._context.hooks.emit(ChildCleaned(self.name, run.spec.generation, killed, took_s))
        self._context.schedule()

    # What each state does when it begins and when it ends

    def _leave(self, state: State) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if state is State.STARTING and self.run:
            self.run.probe_interval_s = self._context.policy.probe_interval_s
        elif state is State.READY and self.run:
            self._health.left_ready()
            self._context.pool.set_ready(self.run.backend, ready=False)

    def _enter(self, old: State) -> None:
        policy = self._context.policy
        self.since = self._context.wall()
        match self.phase.state:
            case State.STARTING:
                self._begin_run()
                self._begin_limit()
            case State.READY:
                self._serve()
            case State.UNHEALTHY:
                self._begin_limit()
            case State.DRAINING:
                self._drain()
            case State.STOPPING:
                if self.run is not None:
                    self.run.terminate()
                    self._after(policy.term_grace_s, self.run.kill)
            case State.BACKOFF:
                self._back_off()
            case State.RESTING:
                self._rest()
            case State.STANDBY:
                # One that is only replaced goes before those that stand by.
                self.waiting_since = 0.0 if old in LIVE else self._context.clock()
                # The reason stays when a crash loop's rest is over: one more short life, and it rests again.
                self._short_lives = self._short_lives if self.reason is Reason.CRASH_LOOP else 0
        self._context.schedule()

    def _begin_run(self) -> None:
        assert self.slot is not None  # noqa: S101 - start() gave it one
        context = self._context
        if self.run is not None and self.run.spec.login.site != self.profile.login.site:
            self._page_models = ()  # those of another page
        self.models = self.profile.login.serves(self._page_models)
        self.generation += 1
        self._session = None
        self._backoff_over = False
        self._health = Health(context.policy, context.clock)
        self.warning, self._refreshes, self.asleep = None, (0, 0), False
        self.run = ChildRun(
            ChildSpec.for_start(
                self.profile,
                self.slot,
                self.generation,
                self.renewed,
                company=self._company,
            ),
            self,
            fingerprint=self.profile.fingerprint,
            models=self.models,
            launcher=context.launcher,
            client=context.client,
            tasks=context.tasks,
            clock=context.clock,
            probe_interval_s=context.policy.start_probe_interval_s,
        )
        self.runs.appendleft(self.run)
        context.pool.put(self.run.backend)
        self.run.begin()

    def _begin_limit(self) -> None:
        """Limit the time that a start takes, or that a child is UNHEALTHY, counted from now.

        It begins anew as often as the child says that its site is away: no restart brings that back, and the child
        serves again by itself.
        """
        policy = self._context.policy
        match self.phase.state:
            case State.STARTING:
                limit = policy.start_timeout_s, Event.START_DEADLINE, Reason.START_TIMEOUT
            case State.UNHEALTHY:
                limit = policy.unhealthy_timeout_s, Event.UNHEALTHY_TIMEOUT, Reason.UNHEALTHY_TIMEOUT
            case _:
                return
        if self._timer is not None:
            self._timer.cancel()
        self._after(limit[0], self._time_out, *limit[1:])

    def _time_out(self, event: Event, reason: Reason) -> None:
        self.fire(event, reason, self.detail or f"still {self.reason}")

    def _serve(self) -> None:
        assert self.run is not None  # noqa: S101 - only a probe of a run leads here
        if self._health.became_ready():
            start_s = self._context.clock() - self.run.began_at
            self._context.hooks.emit(ChildReady(self.name, self.generation, start_s))
        self._context.pool.set_ready(self.run.backend, ready=True)

    def _drain(self) -> None:
        run = self.run
        if run is None or not run.backend.in_flight:
            self.fire(Event.IDLE)
            return

        async def fire_when_idle() -> None:
            await self._context.pool.wait_idle(run.backend)
            self.fire(Event.IDLE, generation=run.spec.generation)

        # When all of the fleet ends, the streams that are left are ended first, and then `Supervisor.stop` fires this
        # deadline: a timer here would race with that one, and a client could be told of a lost child instead.
        if self.reason is not Reason.SHUTDOWN:
            self._after(self._context.policy.drain_timeout_s, self.fire, Event.DRAIN_DEADLINE)
        self._context.tasks.spawn(fire_when_idle(), f"drain {self.name}")

    def _back_off(self) -> None:
        policy = self._context.policy
        delay_s = backoff_s(
            self._short_lives, rand=self._context.rand, base_s=policy.backoff_base_s, max_s=policy.backoff_max_s
        )
        self._context.hooks.emit(RestartPlanned(self.name, self.generation, delay_s, self._short_lives))
        if delay_s:
            self._after(delay_s, self._end_backoff)
        else:
            self._end_backoff()

    def _rest(self) -> None:
        policy = self._context.policy
        in_loop = self.reason is Reason.CRASH_LOOP
        if in_loop:
            delay_s = policy.crash_loop_retry_s * (0.9 + 0.2 * self._context.rand())
        else:
            delay_s = min(policy.rest_default_s if self._rest_s is None else max(0.0, self._rest_s), policy.rest_max_s)
        if self._rest_left_s is not None:
            delay_s, self._rest_left_s = min(delay_s, self._rest_left_s), None
        self._rest_until = self._context.wall() + delay_s
        if in_loop:
            self._context.hooks.emit(RestartPlanned(self.name, self.generation, delay_s, self._short_lives))
            self._after(delay_s, self.fire, Event.REST_OVER)
        else:
            self._after(delay_s, self.fire, Event.REST_OVER, Reason.WAITING)

    def _end_backoff(self) -> None:
        self._backoff_over = True
        self._context.schedule()

    def _after(self, delay_s: float, action: Callable[..., object], *args: object) -> None:
        """Do this in delay_s seconds, unless the state has changed by then."""

        def act() -> None:
            try:
                action(*args)
            except Exception as error:  # noqa: BLE001 - reported; the loop would only log it
                self._context.tasks.fail(f"timer of {self.name}", error)

        self._timer = asyncio.get_running_loop().call_later(delay_s, act)

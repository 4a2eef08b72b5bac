"""What the probes of one run come to: counted here, without I/O, and turned into events of the table."""

from __future__ import annotations

from collections.abc import Callable

from coordinator.supervision.lifecycle import AWAY, Event, Reason, State
from coordinator.supervision.policy import Policy
from coordinator.supervision.ready_probe import ProbeResult


class Health:
    """The health of one run of a child: probes in a row, an unconfirmed cancel, and how long it has been READY."""

    def __init__(self, policy: Policy, clock: Callable[[], float]) -> None:
        self._policy, self._clock = policy, clock
        self._passes = self._fails = 0
        self._cancel_unconfirmed = False
        self._ready_since: float | None = None
        self._ready_before_s = 0.0
        self._was_ready = False

    def judge(self, result: ProbeResult, state: State) -> Event | None:
        """Count one probe of a child in this state; return what it makes happen, if anything."""
        if result.readiness is not None and not result.readiness.busy:
            self._cancel_unconfirmed = False
        if result.reason is None:
            self._fails, self._passes = 0, self._passes + 1
            enough = state is not State.UNHEALTHY or self._passes >= self._policy.healthy_after
            return Event.PROBE_OK if enough and not self._cancel_unconfirmed else None
        if result.reason is Reason.LOGIN_EXPIRED:
            return Event.LOGIN_EXPIRED
        if result.reason is Reason.QUOTA:
            return Event.QUOTA
        self._passes, self._fails = 0, self._fails + 1
        # A child has asked its site three times before it says that: there is nothing left to wait for.
        enough = self._fails >= self._policy.unhealthy_after or result.reason in AWAY
        failed = state is State.READY and enough
        return Event.PROBE_FAILED if failed else None

    def cancel_failed(self) -> None:
        """Let no probe pass until one sees the page free.

        A page may be ready and busy: then it may still be in the conversation of the request that was called off.
        """
        self._cancel_unconfirmed, self._passes = True, 0

    def became_ready(self) -> bool:
        """Begin to count the time of being READY; return whether it is the first time in this run."""
        first, self._was_ready = not self._was_ready, True
        self._ready_since = self._clock()
        return first

    def left_ready(self) -> None:
        """End the present time of being READY."""
        self._ready_before_s, self._ready_since = self.ready_s(), None

    def ready_s(self) -> float:
        """Return for how many seconds the run has been READY in all."""
        since = self._ready_since
        return self._ready_before_s + (0.0 if since is None else self._clock() - since)

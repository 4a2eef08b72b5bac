from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.errors import IllegalTransition
from coordinator.supervision.lifecycle import (
    CONTENDED,
    FATAL,
    FIRST,
    LIVE,
    PHASES,
    TRANSITIONS,
    Event,
    Phase,
    Reason,
    State,
    advance,
    allows,
    backoff_s,
    exit_event,
    exit_reason,
    short_lives_after,
)

S, E = State, Event
RUNNING = [Phase(S.STARTING), Phase(S.READY), Phase(S.UNHEALTHY)]
ENDING = [phase for phase in PHASES if phase.next]

phases = st.sampled_from(PHASES)
events = st.sampled_from(list(Event))
histories = st.lists(events, max_size=60)


def walk(history: list[Event], phase: Phase = FIRST) -> list[tuple[Phase, Event, Phase]]:
    """Take the events that the table allows, drop the others; return the steps."""
    steps = []
    for event in history:
        if allows(phase, event):
            steps.append((phase, event, after := advance(phase, event)))
            phase = after
    return steps


# The design's table, written down a second time, by hand.
DESIGN = [
    (S.STANDBY, None, E.SLOT_FREE, S.STARTING, None),
    (S.STARTING, None, E.PROBE_OK, S.READY, None),
    (S.STARTING, None, E.START_DEADLINE, S.STOPPING, S.BACKOFF),
    (S.READY, None, E.PROBE_FAILED, S.UNHEALTHY, None),
    (S.UNHEALTHY, None, E.PROBE_OK, S.READY, None),
    (S.UNHEALTHY, None, E.UNHEALTHY_TIMEOUT, S.STOPPING, S.BACKOFF),
    *((s, None, E.LOGIN_EXPIRED, S.DRAINING, S.FAILED) for s in (S.STARTING, S.READY, S.UNHEALTHY)),
    *((s, None, E.QUOTA, S.DRAINING, S.RESTING) for s in (S.STARTING, S.READY, S.UNHEALTHY)),
    *(
        (s, None, event, S.DRAINING, S.STANDBY)
        for s in (S.READY, S.UNHEALTHY)
        for event in (E.PROFILE_CHANGED, E.RESTART, E.MEMORY_LIMIT)
    ),
    *(
        (s, None, event, S.DRAINING, S.STOPPED)
        for s in (S.READY, S.UNHEALTHY)
        for event in (E.PROFILE_GONE, E.SHUTDOWN)
    ),
    *(
        (S.DRAINING, after, event, S.STOPPING, after)
        for after in (S.STANDBY, S.RESTING, S.FAILED, S.STOPPED)
        for event in (E.IDLE, E.DRAIN_DEADLINE)
    ),
    *((s, None, E.EXITED, S.BACKOFF, None) for s in (S.STARTING, S.READY, S.UNHEALTHY)),
    *((s, None, E.EXITED_FOR_GOOD, S.FAILED, None) for s in (S.STARTING, S.READY, S.UNHEALTHY)),
    *((s, None, E.CRASH_LOOP, S.RESTING, None) for s in (S.STARTING, S.READY, S.UNHEALTHY)),
    *((S.DRAINING, after, E.EXITED, after, None) for after in (S.STANDBY, S.RESTING, S.FAILED, S.STOPPED)),
    *((S.STOPPING, after, E.EXITED, after, None) for after in (S.STANDBY, S.RESTING, S.FAILED, S.STOPPED, S.BACKOFF)),
    (S.BACKOFF, None, E.DELAY_OVER, S.STARTING, None),
    (S.RESTING, None, E.REST_OVER, S.STANDBY, None),
    *((s, None, event, S.STANDBY, None) for s in (S.RESTING, S.FAILED) for event in (E.RESET, E.PROFILE_CHANGED)),
    *(
        (s, None, event, S.STOPPED, None)
        for s in (S.STANDBY, S.BACKOFF, S.RESTING, S.FAILED)
        for event in (E.SHUTDOWN, E.PROFILE_GONE)
    ),
    *((s, None, E.CLAIM_LOST, S.STOPPING, S.STANDBY) for s in (S.STARTING, S.READY, S.UNHEALTHY)),
    *((S.DRAINING, s, E.CLAIM_LOST, S.STOPPING, S.STANDBY) for s in (S.STANDBY, S.RESTING, S.FAILED)),
    *((S.STOPPING, s, E.CLAIM_LOST, S.STOPPING, S.STANDBY) for s in (S.STANDBY, S.RESTING, S.FAILED, S.BACKOFF)),
    *((s, S.STOPPED, E.CLAIM_LOST, S.STOPPING, S.STOPPED) for s in (S.DRAINING, S.STOPPING)),
    *((s, None, E.CLAIM_LOST, S.STANDBY, None) for s in (S.BACKOFF, S.RESTING, S.FAILED)),
    (S.STANDBY, None, E.CLAIMED_RESTING, S.RESTING, None),
    (S.STANDBY, None, E.CLAIMED_FAILED, S.FAILED, None),
]


@pytest.mark.parametrize(("state", "after", "event", "then", "then_after"), DESIGN)
def test_every_row_of_the_design(
    state: State, after: State | None, event: Event, then: State, then_after: State | None
) -> None:
    assert advance(Phase(state, after), event) == Phase(then, then_after)


def test_beyond_the_design_there_are_only_ways_out() -> None:
    designed = {(Phase(state, after), event) for state, after, event, _, _ in DESIGN}
    beyond = {key: target for key, target in TRANSITIONS.items() if key not in designed}
    assert {event for _, event in beyond} == {
        *(E.PROFILE_CHANGED, E.RESTART, E.PROFILE_GONE, E.SHUTDOWN),  # while starting or on the way out
        *(E.DRAIN, E.RESET),  # the operator's drain and back
    }
    for (phase, event), target in beyond.items():
        if event is E.RESET:
            assert (phase, target) == (Phase(S.STOPPED), Phase(S.STANDBY))
        else:
            assert (target.next or target.state) is (
                S.STANDBY if event in (E.PROFILE_CHANGED, E.RESTART) else S.STOPPED
            )


@given(phases, events)
def test_events_outside_the_table_are_illegal(phase: Phase, event: Event) -> None:
    if allows(phase, event):
        assert advance(phase, event) == TRANSITIONS[phase, event]
    else:
        with pytest.raises(IllegalTransition, match=event.value):
            advance(phase, event)


@given(histories)
def test_only_starts_create_processes_and_only_exits_end_them(history: list[Event]) -> None:
    for before, event, after in walk(history):
        born = before.state not in LIVE and after.state in LIVE
        died = before.state in LIVE and after.state not in LIVE
        assert born == (event in (E.SLOT_FREE, E.DELAY_OVER))
        assert died == (event in (E.EXITED, E.EXITED_FOR_GOOD, E.CRASH_LOOP))


@given(histories)
def test_only_a_passed_probe_makes_a_child_ready(history: list[Event]) -> None:
    for before, event, after in walk(history):
        if after.state is S.READY:
            assert event is E.PROBE_OK
            assert before.state in (S.STARTING, S.UNHEALTHY)


@given(histories, histories)
def test_after_a_shutdown_every_phase_leads_to_stopped(history: list[Event], rest: list[Event]) -> None:
    steps = walk([*history, E.SHUTDOWN])
    phase = steps[-1][2] if steps else FIRST
    for _, _, after in walk([event for event in rest if event is not E.RESET], phase):
        assert after.state in (S.DRAINING, S.STOPPING, S.STOPPED)
        assert after.next in (None, S.STOPPED)


@given(histories)
def test_a_child_that_drains_or_stops_never_serves_again_before_its_exit(history: list[Event]) -> None:
    for before, event, after in walk(history):
        if before in ENDING and event is not E.EXITED:
            assert after in ENDING
            assert (before.state, after.state) != (S.STOPPING, S.DRAINING)


@pytest.mark.parametrize("phase", PHASES, ids=str)
def test_every_phase_can_be_reached_and_can_come_to_an_end(phase: Phase) -> None:
    def reachable(first: Phase) -> set[Phase]:
        found, frontier = {first}, [first]
        while frontier:
            now = frontier.pop()
            fresh = {target for (p, _), target in TRANSITIONS.items() if p == now} - found
            found |= fresh
            frontier.extend(fresh)
        return found

    assert phase in reachable(FIRST)
    assert Phase(S.STOPPED) in reachable(phase)


def test_a_phase_has_a_next_exactly_if_it_ends_in_an_exit() -> None:
    for phase in PHASES:
        assert (phase.next is not None) == (phase.state in (S.DRAINING, S.STOPPING))
    with pytest.raises(ValueError, match="next"):
        Phase(S.READY, S.STOPPED)
    with pytest.raises(ValueError, match="next"):
        Phase(S.DRAINING, S.READY)


def test_a_phase_as_text() -> None:
    assert str(Phase(S.READY)) == "READY"
    assert str(Phase(S.STOPPING, S.BACKOFF)) == "STOPPING(BACKOFF)"


# Back-off


def test_back_off_doubles_up_to_the_cap() -> None:
    delays = [backoff_s(lives, rand=lambda: 1.0, base_s=0.5, max_s=60.0) for lives in range(10)]
    assert delays == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


@given(st.integers(1, 10_000), st.floats(0.01, 10), st.floats(0.1, 600), st.randoms())
def test_back_off_is_jittered_within_its_upper_half(
    lives: int, base_s: float, max_s: float, chance: random.Random
) -> None:
    whole = backoff_s(lives, rand=lambda: 1.0, base_s=base_s, max_s=max_s)
    delay = backoff_s(lives, rand=chance.random, base_s=base_s, max_s=max_s)
    assert whole / 2 <= delay <= whole <= max_s


def test_a_steady_run_resets_the_count_of_short_ones() -> None:
    assert short_lives_after(0, ready_s=59.9) == 1
    assert short_lives_after(6, ready_s=59.9) == 7
    assert short_lives_after(7, ready_s=60.0) == 0
    assert backoff_s(0, rand=lambda: 1.0) == 0.0


# Exits


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (0, Reason.EXITED),
        (1, Reason.CRASHED),
        (2, Reason.CONFIG_ERROR),
        (69, Reason.PORT_TAKEN),
        (70, Reason.BROWSER_LOST),
        (71, Reason.DRIVER_LOST),
        (73, Reason.PROFILE_LOCKED),
        (74, Reason.BROWSER_MISSING),
        (75, Reason.PARENT_GONE),
        (76, Reason.CLAIM_LOST),
        (127, Reason.CRASHED),
        (-9, Reason.KILLED),
        (-15, Reason.KILLED),
        (-11, Reason.CRASHED),
    ],
)
def test_exit_codes_have_reasons(exit_code: int, reason: Reason) -> None:
    assert exit_reason(exit_code) is reason


def test_a_crash_loop_rests() -> None:
    assert exit_event(Reason.CRASHED, 7, crash_loop_after=8) is E.EXITED
    assert exit_event(Reason.CRASHED, 8, crash_loop_after=8) is E.CRASH_LOOP


@pytest.mark.parametrize("reason", sorted(FATAL))
def test_fatal_exits_fail_at_once(reason: Reason) -> None:
    assert exit_event(reason, 1, crash_loop_after=8) is E.EXITED_FOR_GOOD


@pytest.mark.parametrize("reason", sorted(CONTENDED))
def test_contended_resources_are_retried_for_ever(reason: Reason) -> None:
    assert exit_event(reason, 1000, crash_loop_after=8) is E.EXITED

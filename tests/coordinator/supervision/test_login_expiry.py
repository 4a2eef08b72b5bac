"""A login that expires is told ahead: in words, by events at each halving of the rest, and once a day in the log."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from coordinator.supervision.events import LoginExpires, LoginRefreshed
from coordinator.supervision.login_expiry import DAY_S, LoginExpiry
from tests.coordinator.fleet import running_fleet
from tests.support.waiting import eventually

HOUR_S = 3600.0
EXPIRES_AT = 1_800_000_000.0


def expiry(days: float = 3.0, expires_at: float = EXPIRES_AT, *, kept: bool = False) -> LoginExpiry:
    made = LoginExpiry(days)
    made.learn(expires_at, kept=kept)
    return made


@given(st.floats(0.01, 3650), st.floats(0.1, 10), st.lists(st.floats(1, DAY_S), min_size=1))
def test_it_is_told_at_the_threshold_and_at_each_halving_and_never_twice(
    days: float, begins_at: float, pauses: list[float]
) -> None:
    login, now, told = expiry(days), EXPIRES_AT - begins_at * days * DAY_S, []
    for at in range(400):
        left_s = EXPIRES_AT - now
        if login.tell(now):
            told.append(left_s)
        assert not login.tell(now), "never twice"
        if told and left_s > 0:
            assert left_s > told[-1] / 2 or told[-1] <= HOUR_S, "each halving is told"
        assert bool(told) >= (left_s <= days * DAY_S), "the threshold is told"
        now += pauses[at % len(pauses)]
    assert all(left_s <= days * DAY_S for left_s in told)
    assert all(later <= earlier / 2 or later <= 0 for earlier, later in itertools.pairwise(told))


def test_three_days_are_told_eight_times() -> None:
    login = expiry()
    minutes = range(-5 * 24 * 60, 24 * 60)
    told = [round(-minute / 60) for minute in minutes if login.tell(EXPIRES_AT + 60 * minute)]
    assert told == [72, 36, 18, 9, 4, 2, 1, 1]


def test_a_session_that_each_use_prolongs_a_little_is_not_told_for_ever() -> None:
    login, told = LoginExpiry(3.0), 0
    for hour in range(1000):
        login.learn((hour + 1) * HOUR_S, kept=False)
        for quarter in range(4):
            told += login.tell((hour + quarter / 4) * HOUR_S)
    assert told <= 2


def test_a_login_that_was_renewed_is_told_anew() -> None:
    login = expiry()
    assert login.tell(EXPIRES_AT - DAY_S)
    login.learn(EXPIRES_AT + 30 * DAY_S, kept=False)
    assert not login.tell(EXPIRES_AT)
    assert login.tell(EXPIRES_AT + 28 * DAY_S)
    login.learn(EXPIRES_AT + 32.5 * DAY_S, kept=False)
    assert login.tell(EXPIRES_AT + 30 * DAY_S), "this one has never been above the threshold, and is another login"


@pytest.mark.parametrize(
    ("login", "left_s", "words"),
    [
        (expiry(), 3.1 * DAY_S, None),
        (expiry(), 2.96 * DAY_S, "the login expires in 3.0 days, on 2027-01-15 08:00 UTC, by its cookies: renew it"),
        (expiry(), HOUR_S, "the login expires in 0.0 days, on 2027-01-15 08:00 UTC, by its cookies: renew it"),
        (expiry(), -HOUR_S, "the login expired on 2027-01-15 08:00 UTC by its cookies: renew it"),
        (expiry(kept=True), HOUR_S, None),
        (expiry(0), HOUR_S, None),
        (LoginExpiry(3.0), HOUR_S, None),
    ],
    ids=["later", "three days", "an hour", "over", "kept", "switched off", "unknown"],
)
def test_the_warning_says_how_many_days_are_left(login: LoginExpiry, left_s: float, words: str | None) -> None:
    now = EXPIRES_AT - left_s
    assert login.warning(now) == words
    assert login.tell(now) == (words is not None)


def test_it_is_logged_once_a_day() -> None:
    login = expiry()
    logged = [hour for hour in range(-100, 0) if login.log(EXPIRES_AT + hour * HOUR_S)]
    assert logged == [-72, -48, -24]


async def test_a_supervised_child_whose_login_expires_is_told_logged_and_warned_of_once(tmp_path: Path) -> None:
    soon = time.time() + DAY_S
    with capture_logs() as logs:
        async with running_fleet(tmp_path, ["a", "b"]) as fleet:
            await fleet.behave("a", login_expires_at=soon)
            told = await fleet.until_event(LoginExpires)
            assert (told.child, told.generation, told.expires_at) == ("a", 1, soon)
            assert 0 < told.left_s <= DAY_S
            [warning] = fleet.status("a").warnings
            assert warning.startswith("the login expires in 1.0 days, on ")
            assert fleet.status("b").warnings == ()
            # Also over a restart, and many looks later.
            fleet.supervisor.restart("a")
            fleet.plan("a", login_expires_at=soon)
            await fleet.until_start("a", 2)
            await asyncio.sleep(5 * fleet.supervisor.policy.expiry_check_s)
            assert len([event for event in fleet.events if isinstance(event, LoginExpires)]) == 1
            # The child refreshes it in time: nothing to warn of.
            await fleet.behave("a", login_kept=True)
            await eventually(lambda: fleet.status("a").warnings == (), what=lambda: fleet.status("a"))
            assert fleet.status("a").login_expires_at == soon
    said = [entry for entry in logs if entry["event"] == "login_expires_soon"]
    assert [(entry["child"], entry["log_level"]) for entry in said] == [("a", "warning")]


async def test_what_a_child_says_of_its_refreshes_is_counted_and_its_warning_shown_while_it_stays_ready(
    tmp_path: Path,
) -> None:
    def counted() -> tuple[int, int]:
        found = [event for event in fleet.events if isinstance(event, LoginRefreshed)]
        return sum(event.refreshed for event in found), sum(event.failed for event in found)

    async with running_fleet(tmp_path) as fleet:
        await fleet.behave("a", refreshes=2, refresh_failures=1, warning="the login was not refreshed: look at x.toml")
        await eventually(lambda: counted() == (2, 1), what=counted)
        status = fleet.status("a")
        assert (status.warnings, status.reason) == (("the login was not refreshed: look at x.toml",), None)
        assert fleet.supervisor.ready
        await fleet.behave("a", refreshes=3, warning=None)
        await eventually(lambda: counted() == (3, 1), what=counted)
        assert fleet.status("a").warnings == ()
        # A child that is started anew counts from nothing.
        fleet.plan("a", refreshes=1)
        fleet.supervisor.restart("a")
        await fleet.until_start("a", 2)
        await eventually(lambda: counted() == (4, 1), what=counted)

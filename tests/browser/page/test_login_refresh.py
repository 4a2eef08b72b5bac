"""`login.refresh`: an idle login is kept from expiring, in each way, at its time, and never in the way of a prompt."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from browser.page import login_refresh, page_monitor
from browser.page.chat_page import ChatPage
from browser.page.login_refresh import (
    BEFORE_EXPIRY_JITTER,
    EVERY_JITTER,
    FIRST_WITHIN_S,
    LAST_RETRY_S,
    RefreshTimes,
)
from browser.site.schema import Refresh
from demo.site import SiteOptions, serve
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, demo_file, tab_of
from tests.browser.profiles import kind_state
from tests.browser.short_login_page import COOKIE, LASTS_S, REFRESH_LINE, ShortSite, short_site
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

WAYS = {
    "visit": 'visit = "/renew", done = [{ selector = "#renewed" }]',
    "visit without done": 'visit = "/renew"',
    "fetch": 'fetch = "/api/renew", method = "POST"',
    "steps": 'steps = [{ click = "#stay" }], done = [{ selector = "[data-stayed=\'200\']" }]',
    "steps without done": 'steps = [{ click = "#stay" }]',
    "steps that leave the page": 'steps = [{ click = "#away" }, { wait_for = "#renewed" }]',
    "steps in a tab of their own": 'own_tab = true, steps = [{ click = "#stay" }]',
}


def table(way: str, when: str = "every_s = 1") -> str:
    return f"refresh = {{ {WAYS.get(way, way)}, {when} }}"


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ShortSite]:
    # For time: the monitor looks more often, and the first refresh comes at once.
    monkeypatch.setattr(page_monitor, "TICK_S", 0.1)
    monkeypatch.setattr(login_refresh, "FIRST_WITHIN_S", 0.0)
    async with short_site() as running:
        yield running


async def serves(page: ChatPage, prompt: str) -> bool:
    return await ask(page, prompt, "short", request_id=prompt) == f"heard {prompt}"


def has_saved(page: ChatPage, site: ShortSite) -> bool:
    """Whether the session that is saved for the next start is the one that the site knows."""
    path: Path = page._run_dir / "session.json"
    cookies = json.loads(path.read_text())["storage_state"]["cookies"] if path.exists() else []
    return any(cookie["name"] == COOKIE and cookie["value"] in site.sessions for cookie in cookies)


def has_one_tab(page: ChatPage) -> bool:
    return len(tab_of(page).page.context.pages) == 1


def all_later(pages: dict[str, ChatPage], before: dict[str, int]) -> bool:
    """Whether each page has refreshed its login since."""
    return all(page.status.refresh.refreshed > before[way] for way, page in pages.items())


async def test_a_short_login_lives_on_as_long_as_it_is_refreshed_in_any_way(
    shared_pages: Pages, site: ShortSite
) -> None:
    pages = {way: await shared_pages.open(site.file(table(way)), site.state()) for way in WAYS}
    for _ in range(2):
        before = {way: page.status.refresh.refreshed for way, page in pages.items()}
        await eventually(
            partial(all_later, pages, before),
            what=lambda: {way: page.status for way, page in pages.items()},
        )
        site.now += LASTS_S - 1
    for way, page in pages.items():
        assert page.status.ready, (way, page.status)
        assert (page.status.refresh.failed, page.status.refresh.warning) == (0, None), way
        assert page.status.refresh.keeps_login, way
        assert await serves(page, way)
        await eventually(partial(has_saved, page, site), what=f"{way}: the new session is saved")
        await eventually(partial(has_one_tab, page), what=f"{way}: no tab stays open")


async def test_it_dies_without(shared_pages: Pages, site: ShortSite) -> None:
    page = await shared_pages.open(site.file(), site.state(), login_check_s=0.1)
    site.now += LASTS_S
    await eventually(lambda: page.status.reason == "login_expired", what=lambda: page.status)
    assert site.renewals == []


async def test_the_demo_login_of_ten_seconds_lives_for_thirty_by_refreshing_and_dies_without(
    shared_pages: Pages,
) -> None:
    async with serve(SiteOptions(refresh_ttl_s=10)) as demo:
        line = 'check = { url = "/api/me", expired_status = [401] }'
        how = 'refresh = { fetch = "/api/refresh", method = "POST", every_s = 2, before_expiry_s = 8 }'
        kept = demo_file(demo, "/refresh/chat", refresh=f"{line}|{line}\n{how}")
        page = await shared_pages.open(kept, kind_state(demo, "refresh", "ada"))
        left = await shared_pages.open(
            demo_file(demo, "/refresh/chat"), kind_state(demo, "refresh", "grace"), login_check_s=1
        )
        began = time.monotonic()
        await eventually(lambda: left.status.reason == "login_expired", what=lambda: left.status)
        await asyncio.sleep(max(0.0, 30 - (time.monotonic() - began)))
        assert page.status.ready, page.status
        assert page.status.refresh.refreshed >= 3
        check_answer(await ask(page, "hello"), "hello", last(demo))


async def test_a_login_that_is_about_to_expire_by_its_cookie_is_refreshed_once(
    shared_pages: Pages, site: ShortSite
) -> None:
    page = await shared_pages.open(site.file(table("fetch", "before_expiry_s = 172800")), site.state(cookie_s=86_400))
    expires_at = page.status.login_expires_at
    assert expires_at
    await eventually(lambda: page.status.refresh.refreshed == 1, what=lambda: page.status)
    assert (page.status.login_expires_at or 0) > expires_at + 86_400
    assert page._opened
    assert page._opened.refresh
    assert not page._opened.refresh.is_due
    assert page.status.refresh.keeps_login


@pytest.mark.parametrize(
    ("status", "lines", "at", "key", "says"),
    [
        (
            500,
            ["steps = [", '  { click = "#stay" },', '  { wait_for = "#never", timeout_s = 0.5 },', "]"],
            2,
            "steps[1]",
            "the step wait_for = '#never', timeout_s = 0.5 took too long",
        ),
        (
            200,
            ['visit = "/renew"', "timeout_s = 1", "done = [", '  { selector = "#never" },', "]"],
            2,
            "done",
            "no marker of done holds",
        ),
        (500, ['fetch = "/api/renew"'], 0, "fetch", "/api/renew is answered with status 500"),
        (200, ['visit = "http://127.0.0.1:1/"'], 0, "visit", "http://127.0.0.1:1/ cannot be loaded"),
    ],
    ids=["steps", "done", "fetch", "visit"],
)
async def test_a_refresh_that_fails_is_named_with_its_place_and_the_page_stays_ready(
    shared_pages: Pages, site: ShortSite, *, status: int, lines: list[str], at: int, key: str, says: str
) -> None:
    site.status = status
    with capture_logs() as logs:
        refresh = "\n".join(["[login.refresh]", "every_s = 1", *lines])
        page = await shared_pages.open(site.file(refresh), site.state())
        await eventually(lambda: page.status.refresh.failed, what=lambda: page.status)
    [said, *_] = [entry for entry in logs if entry["event"] == "login_not_refreshed"]
    place, key = f"short.toml, line {REFRESH_LINE + 2 + at}", f"login.refresh.{key}"
    assert (said["place"], said["key"], said["log_level"]) == (place, key, "warning")
    assert said["reason"] == says
    assert page.status.refresh.warning
    assert f"look at {place} ({key})" in page.status.refresh.warning
    assert not page.status.refresh.keeps_login
    assert page.status.ready, page.status
    assert await serves(page, "all the same")


async def test_a_refresh_by_which_the_cookie_lasts_no_longer_counts_as_failed_and_works_again_when_it_does(
    shared_pages: Pages, site: ShortSite
) -> None:
    site.rotates = False
    page = await shared_pages.open(
        site.file(table("fetch", "every_s = 1, before_expiry_s = 172800")), site.state(cookie_s=86_400)
    )
    await eventually(lambda: page.status.refresh.failed, what=lambda: page.status)
    assert page.status.ready
    site.rotates = True
    await eventually(lambda: page.status.refresh.refreshed, what=lambda: page.status)
    assert page.status.refresh.warning is None


@pytest.mark.parametrize("way", ["fetch", "visit", "steps in a tab of their own"])
async def test_a_refresh_by_which_the_login_turns_out_to_be_lost_says_so(
    shared_pages: Pages, site: ShortSite, way: str
) -> None:
    page = await shared_pages.open(site.file(table(way)), site.state())
    site.sessions.clear()
    await eventually(lambda: page.status.reason == "login_expired", what=lambda: page.status)


async def test_a_request_waits_for_the_refresh_and_a_refresh_for_the_answer(
    shared_pages: Pages, site: ShortSite
) -> None:
    site.may_renew.clear()
    page = await shared_pages.open(site.file(table("fetch")), site.state())
    await eventually(lambda: site.renewals, what=lambda: page.status)
    asking = asyncio.create_task(serves(page, "hello"))
    await eventually(lambda: page.exclusive._waiters, what="the request waits")
    assert site.prompts == []
    site.may_answer.clear()
    site.may_renew.set()
    await eventually(lambda: site.prompts == ["hello"], what=lambda: page.status)
    assert page.status.refresh.refreshed == 1
    refresh = page._opened and page._opened.refresh
    assert refresh
    await eventually(lambda: refresh.is_due)
    for _ in range(10):
        await asyncio.sleep(page_monitor.TICK_S)
    assert len(site.renewals) == 1, "none comes in an answer, though one is due"
    site.may_answer.set()
    assert await asking
    await eventually(lambda: len(site.renewals) > 1, what=lambda: page.status)


async def test_a_refresh_gives_way_to_a_request_that_waits_as_the_page_becomes_free(
    shared_pages: Pages, site: ShortSite
) -> None:
    page = await shared_pages.open(site.file(table("fetch")), site.state())
    assert page._opened
    refresh, monitor = page._opened.refresh, page._opened.monitor
    assert refresh
    await page.exclusive.acquire()  # as a prompt does
    before = len(site.renewals)
    asking = asyncio.create_task(serves(page, "hello"))
    await eventually(lambda: page.exclusive._waiters, what="the request waits")
    await eventually(lambda: refresh.is_due)
    page.exclusive.release()
    assert not page.exclusive.locked(), "the request has not woken yet"
    await monitor._refresh_login(refresh)
    assert (site.prompts, len(site.renewals)) == (["hello"], before)
    assert await asking


async def test_the_login_expires_by_the_cookies_that_the_file_names(shared_pages: Pages, site: ShortSite) -> None:
    state = site.state(cookie_s=86_400)
    [cookie] = state["cookies"]
    state["cookies"].append({**cookie, "name": "firewall", "value": "x", "expires": cookie["expires"] - 80_000})
    page = await shared_pages.open(site.file(f'expires_by = ["{COOKIE}"]'), state)
    assert page.status.login_expires_at == pytest.approx(cookie["expires"], abs=1)
    other = await shared_pages.open(
        site.file(), {"cookies": [{**one, "value": site.open()} for one in state["cookies"]]}
    )
    assert other.status.login_expires_at == pytest.approx(cookie["expires"] - 80_000, abs=1)


REFRESHES = st.builds(
    Refresh,
    fetch=st.just("/renew"),
    every_s=st.none() | st.floats(1, 31 * 86_400),
    before_expiry_s=st.floats(1, 31 * 86_400),
)


@given(REFRESHES, st.integers(), st.floats(1, 1e7))
def test_a_refresh_is_due_at_its_time_or_a_little_sooner(refresh: Refresh, seed: int, lasts_s: float) -> None:
    times = RefreshTimes(refresh, 0.0, random.Random(seed).random)
    assert 0 <= times.due_at(0.0) <= min(FIRST_WITHIN_S, EVERY_JITTER * (refresh.every_s or 1e9))
    times.succeed(1000.0)
    due = times.due_at(1000.0 + lasts_s) - 1000.0
    before_s = refresh.before_expiry_s or 0.0
    latest = [max(lasts_s - before_s, lasts_s / 2)]
    soonest = [max(lasts_s - before_s * (1 + BEFORE_EXPIRY_JITTER), lasts_s / 2)]
    if refresh.every_s is not None:
        latest.append(refresh.every_s)
        soonest.append(refresh.every_s * (1 - EVERY_JITTER))
    assert min(soonest) - 1e-3 <= due <= min(latest) + 1e-3
    again = RefreshTimes(refresh, 0.0, random.Random(seed).random)
    again.succeed(1000.0)
    assert again.due_at(1000.0 + lasts_s) - 1000.0 == due, "one seed gives the same times"


def test_a_hundred_logins_do_not_come_at_once() -> None:
    rand = random.Random(14).random
    fleet = [RefreshTimes(Refresh(fetch="/renew", every_s=3600), 0.0, rand) for _ in range(100)]
    first = [times.due_at(None) for times in fleet]
    assert max(first) - min(first) > FIRST_WITHIN_S / 2
    for times in fleet:
        times.succeed(100.0)
    then = [times.due_at(None) for times in fleet]
    assert max(then) - min(then) > 3600 * EVERY_JITTER / 2


@given(REFRESHES, st.integers())
def test_after_failures_it_is_tried_less_and_less_often(refresh: Refresh, seed: int) -> None:
    times, now, waits = RefreshTimes(refresh, 0.0, random.Random(seed).random), 0.0, []
    for _ in range(30):
        waits.append(times.fail(now))
        now += waits[-1]
        assert times.due_at(now) == pytest.approx(now), "whatever the cookies say"
    assert all(b > 1.5 * a for a, b in itertools.pairwise(waits) if b < LAST_RETRY_S)
    assert LAST_RETRY_S <= waits[-1] <= LAST_RETRY_S * (1 + EVERY_JITTER)
    times.succeed(now)
    assert times.failures == 0

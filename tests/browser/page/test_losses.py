"""A page whose process, tab, login or site fails, in real Chromium."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from browser.errors import BrowserLost, LoginExpired, NotStarted, PageBroken
from browser.page import page_monitor, site_page
from browser.page.chat_page import ChatPage
from contract.processes import ProcessIdentity
from contract.run_folder import read_processes
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, demo_file, tab_of
from tests.browser.profiles import cookie_state, local_storage_state
from tests.support.waiting import HANG_LIMIT_S, eventually

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from pathlib import Path

    from demo.site import DemoSite


def processes(page: ChatPage) -> Mapping[str, ProcessIdentity]:
    return {str(role): process for role, process in read_processes(page._run_dir).items()}


@pytest.mark.parametrize("role", ["browser", "driver"])
async def test_a_dead_process_is_noticed_at_once(page: ChatPage, demo: DemoSite, role: str) -> None:
    both = processes(page)
    asking = asyncio.create_task(ask(page, "[[stall=middle]]"), name="asking")
    await eventually(demo.ledger.entries)
    waiting = asyncio.create_task(ask(page, "next"), name="waiting")
    lost = asyncio.create_task(page.wait_lost(), name="lost")
    os.kill(both[role].pid, signal.SIGKILL)
    assert await asyncio.wait_for(lost, HANG_LIMIT_S) == f"{role}_lost"
    with pytest.raises(BrowserLost) as caught:
        await asyncio.wait_for(asking, HANG_LIMIT_S)
    assert caught.value.submitted
    with pytest.raises(BrowserLost) as caught:
        await asyncio.wait_for(waiting, HANG_LIMIT_S)
    assert not caught.value.submitted
    assert page.status.reason == "browser_lost"
    await page.close()
    assert not both["browser"].is_alive()
    assert not both["driver"].is_alive()


async def test_a_driver_that_hangs_is_noticed_and_ended(page: ChatPage, demo: DemoSite) -> None:
    both = processes(page)
    os.kill(both["driver"].pid, signal.SIGSTOP)
    await eventually(lambda: page.status.reason == "browser_lost", timeout_s=60)
    await asyncio.wait_for(page.close(), HANG_LIMIT_S)
    assert not both["driver"].is_alive()
    await eventually(lambda: not both["browser"].is_alive())


async def test_a_browser_whose_page_hangs_in_every_new_context_is_given_up(
    page: ChatPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_monitor, "RENEW_AFTER_S", 0.1)
    monkeypatch.setattr(site_page, "NEW_TAB_TIMEOUT_S", 0.1)
    browser = processes(page)["browser"]
    with capture_logs() as lines:
        os.killpg(browser.pid, signal.SIGSTOP)
        assert await asyncio.wait_for(page.wait_lost(), 120) == "browser_lost"
    assert [line["renewals"] for line in lines if line["event"] == "page_renewed"] == [1, 2, 3]
    await page.close()
    assert not browser.is_alive()


async def test_a_page_that_crashes_is_opened_anew(page: ChatPage, demo: DemoSite) -> None:
    with pytest.raises(PageBroken, match="the page crashed") as caught:
        await asyncio.wait_for(ask(page, "[[crash stall=middle]]"), 30)
    assert caught.value.submitted
    await eventually(lambda: page.status.ready and not page.busy)
    check_answer(await ask(page, "next"), "next", last(demo))


async def test_a_profile_that_is_logged_out_at_the_start(shared_pages: Pages, demo: DemoSite) -> None:
    state = cookie_state(demo)
    demo.sessions.expire()
    page = await shared_pages.open(demo_file(demo), state)
    assert page.status.reason == "login_expired"
    assert not page.status.ready
    with pytest.raises(LoginExpired) as caught:
        await ask(page, "hello")
    assert not caught.value.submitted
    assert not demo.ledger.entries()
    await page.close()
    assert not (page._run_dir / "session.json").exists()


async def test_a_login_lost_in_local_storage_is_noticed_while_idle(shared_pages: Pages, demo: DemoSite) -> None:
    page = await shared_pages.open(demo_file(demo, "/token/chat"), local_storage_state(demo), login_check_s=0.2)
    assert page.status.ready
    demo.sessions.expire()
    await eventually(lambda: page.status.reason == "login_expired")


async def test_a_login_that_comes_back_is_noticed(shared_pages: Pages, demo: DemoSite) -> None:
    state = cookie_state(demo)
    sessions = dict(demo.sessions._open)
    demo.sessions.expire()
    page = await shared_pages.open(demo_file(demo), state, login_check_s=0.2)
    assert page.status.reason == "login_expired"
    demo.sessions._open.update(sessions)
    await eventually(lambda: page.status.ready)
    check_answer(await ask(page, "hello"), "hello", last(demo))


async def test_a_session_that_ends_in_mid_answer(shared_page: ChatPage, demo: DemoSite) -> None:
    asking = asyncio.create_task(ask(shared_page, "[[stall=middle]]"), name="asking")
    await eventually(demo.ledger.entries)
    demo.sessions.expire()
    await tab_of(shared_page).page.evaluate("location.replace('/login')")
    with pytest.raises(LoginExpired) as caught:
        await asyncio.wait_for(asking, 10)
    assert caught.value.submitted
    assert shared_page.status.reason == "login_expired"


async def test_a_site_that_cannot_be_reached(shared_pages: Pages, demo: DemoSite) -> None:
    nowhere = demo_file(demo).model_copy(update={"url": "http://127.0.0.1:9/chat"})
    page = await shared_pages.open(nowhere, cookie_state(demo))
    assert page.status.reason == "site_unreachable"
    assert page.status.detail == "opening http://127.0.0.1:9/chat failed"


async def test_cookies_that_the_browser_lost_are_no_logout(shared_pages: Pages, demo: DemoSite, tmp_path: Path) -> None:
    """The next browser gets the saved session, so it must not be overwritten either."""
    state, run_dir = cookie_state(demo), tmp_path / "kept"
    run_dir.mkdir()
    page = await shared_pages.open(demo_file(demo), state, run_dir=run_dir)
    demo.faults.add("rotate_sessions", count=1)
    await ask(page, "hello")
    (token,) = demo.sessions._open
    # It was saved before the prompt too, with the cookie that this one has replaced.
    kept = run_dir / "session.json"
    await eventually(lambda: not page.busy and kept.exists() and token.encode() in kept.read_bytes())
    saved = kept.read_bytes()
    tab = tab_of(page)
    await tab.page.context.clear_cookies()
    assert page._opened
    await page._opened.login.save()
    assert kept.read_bytes() == saved
    await tab.page.evaluate("location.reload()")
    assert await asyncio.wait_for(page.wait_lost(), 20) == "browser_lost"
    assert page.status.reason == "browser_lost"
    await page.close()
    again = await shared_pages.open(demo_file(demo), state, run_dir=run_dir)
    check_answer(await ask(again, "next"), "next", last(demo))


async def test_cookies_lost_in_mid_answer_are_no_logout(shared_page: ChatPage, demo: DemoSite) -> None:
    asking = asyncio.create_task(ask(shared_page, "[[stall=middle]]"), name="asking")
    await eventually(demo.ledger.entries)
    await tab_of(shared_page).page.context.clear_cookies()
    await tab_of(shared_page).page.evaluate("location.replace('/login')")
    with pytest.raises(BrowserLost) as caught:
        await asyncio.wait_for(asking, 20)
    assert caught.value.submitted


async def test_no_caret_blinks_though_the_input_keeps_the_focus(shared_page: ChatPage, demo: DemoSite) -> None:
    """It is most of what an idle page costs."""
    page = tab_of(shared_page).page
    for prompt in ("first", "second"):
        assert await page.evaluate(
            "[document.activeElement.tagName, getComputedStyle(document.activeElement).caretAnimation]"
        ) == ["TEXTAREA", "manual"]
        check_answer(await ask(shared_page, prompt), prompt, last(demo))
        await eventually(lambda: not shared_page.busy)


async def test_first_token_and_idle_timeouts(shared_pages: Pages, demo: DemoSite) -> None:
    page = await shared_pages.open(
        demo_file(demo), cookie_state(demo), first_token_timeout_s=0.5, stream_idle_timeout_s=0.3
    )
    for shape, reason in (("stall=first", "first_token_timeout"), ("stall=middle", "stream_idle_timeout")):
        with pytest.raises(Exception, match=r"within 0\.5 s|stood still for 0\.3 s") as caught:
            await ask(page, f"[[{shape}]]")
        assert getattr(caught.value, "reason", None) == reason
        await eventually(lambda: last(demo).outcome == "stopped")
    check_answer(await ask(page, "next"), "next", last(demo))


async def test_cookies_that_rotate_are_kept_for_the_next_start(
    shared_pages: Pages, demo: DemoSite, tmp_path: Path
) -> None:
    state, run_dir = cookie_state(demo), tmp_path / "kept"
    run_dir.mkdir()
    page = await shared_pages.open(demo_file(demo), state, run_dir=run_dir)
    demo.faults.add("rotate_sessions", count=1)
    await ask(page, "hello")
    await page.close()
    saved = run_dir / "session.json"
    assert saved.stat().st_mode & 0o777 == 0o600
    assert state["cookies"][0]["value"] not in saved.read_text()
    again = await shared_pages.open(demo_file(demo), state, run_dir=run_dir)
    assert again.status.ready
    check_answer(await ask(again, "hello"), "hello", last(demo))


async def test_closing_leaves_nothing(page: ChatPage, demo: DemoSite) -> None:
    both = processes(page)
    asking = asyncio.create_task(ask(page, "[[stall=middle]]"), name="asking")
    await eventually(demo.ledger.entries)
    waiting = asyncio.create_task(ask(page, "next"), name="waiting")
    await asyncio.wait_for(page.close(), HANG_LIMIT_S)
    await asyncio.wait_for(page.close(), HANG_LIMIT_S)
    assert not any(process.is_alive() for process in both.values())
    with pytest.raises(BrowserLost):
        await asyncio.wait_for(asking, HANG_LIMIT_S)
    with pytest.raises(NotStarted):
        await asyncio.wait_for(waiting, HANG_LIMIT_S)
    assert len(demo.ledger.entries()) == 1

    def tasks_left() -> set[str]:
        return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(("page-", "answer-"))}

    await eventually(lambda: not tasks_left(), what=tasks_left)

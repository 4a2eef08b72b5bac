"""A browser that hangs for a while, and prompts before, during and after that."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing

import pytest

from browser.errors import BrowserLost, PageHung
from browser.page.chat_page import ChatPage
from browser.page.tab import PageSnapshot, Tab
from contract.processes import ProcessIdentity
from demo.site import DemoSite
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import lasting_page, tab_of
from tests.support.processes import command_line, group_members
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

demo, folder, page = lasting_page(own_browser=True)


async def test_a_browser_that_hangs_and_comes_back(page: ChatPage, demo: DemoSite) -> None:
    group = page._browser.identity.pid
    await eventually(lambda: page.status.ready and not page.busy)
    before = demo.ledger.revision
    os.killpg(group, signal.SIGSTOP)
    try:
        await eventually(lambda: page.status.reason == "browser_lost", timeout_s=60)
        with pytest.raises(BrowserLost) as caught:
            await ask(page, "hello")
        assert not caught.value.submitted
        assert demo.ledger.revision == before
    finally:
        os.killpg(group, signal.SIGCONT)
    await eventually(lambda: page.status.ready)
    check_answer(await ask(page, "hello"), "hello", last(demo))


async def test_a_browser_that_is_slow_for_a_moment_is_not_lost(
    page: ChatPage, demo: DemoSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look that takes too long is no reason to refuse a request; the coordinator waits for three probes too."""
    failed = asyncio.Event()
    look = Tab.look

    async def note_hung(tab: Tab, *timeout_s: float) -> PageSnapshot | None:
        try:
            return await look(tab, *timeout_s)
        except PageHung:
            failed.set()
            raise

    await eventually(lambda: page.status.ready and not page.busy, timeout_s=10)
    monkeypatch.setattr(Tab, "look", note_hung)
    group = page._browser.identity.pid
    os.killpg(group, signal.SIGSTOP)
    try:
        await asyncio.wait_for(failed.wait(), 30)
        await asyncio.sleep(0)  # the monitor has heard of it by then
        assert page.status.ready
        asking = asyncio.create_task(ask(page, "hello"), name="asking")
        await eventually(lambda: page.busy)
    finally:
        os.killpg(group, signal.SIGCONT)
    check_answer(await asyncio.wait_for(asking, 60), "hello", last(demo))


async def test_an_answer_survives_a_hang(page: ChatPage, demo: DemoSite) -> None:
    group = page._browser.identity.pid
    await eventually(lambda: page.status.ready and not page.busy)
    async with aclosing(page.ask("a", "[[tokens=100]]", "demo-small")) as pieces:
        text = await anext(pieces)
        os.killpg(group, signal.SIGSTOP)
        try:
            await eventually(lambda: page.status.reason == "browser_lost", timeout_s=60)
        finally:
            os.killpg(group, signal.SIGCONT)
        text += "".join([piece async for piece in pieces])
    check_answer(text, "[[tokens=100]]", last(demo))


async def test_an_answer_cancelled_while_the_browser_hangs_is_stopped_later(page: ChatPage, demo: DemoSite) -> None:
    group = page._browser.identity.pid
    await eventually(lambda: page.status.ready and not page.busy)
    pieces = page.ask("a", "[[stall=middle]]", "demo-small")
    await anext(pieces)
    os.killpg(group, signal.SIGSTOP)
    try:
        await eventually(lambda: page.status.reason == "browser_lost", timeout_s=60)
        await pieces.aclose()
        assert not page.status.ready
    finally:
        os.killpg(group, signal.SIGCONT)
    await eventually(lambda: last(demo).outcome == "stopped", timeout_s=30, what=lambda: last(demo).outcome)
    await eventually(lambda: page.status.ready and not page.busy)
    check_answer(await ask(page, "next"), "next", last(demo))


async def test_a_page_that_hangs_for_good_is_opened_in_a_new_context(page: ChatPage, demo: DemoSite) -> None:
    """Its process may be dead without a word, as in Firefox; here it is stopped. The browser stays."""
    await eventually(lambda: page.status.ready and not page.busy, timeout_s=10)
    browser, context = page._browser.identity, tab_of(page).page.context
    members = [process for process in map(ProcessIdentity.of, group_members(browser.pid)) if process]
    renderers = [process for process in members if "--type=renderer" in command_line(process.pid)]
    assert renderers
    for process in renderers:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        await eventually(lambda: not page.status.ready, timeout_s=60)
        await eventually(lambda: page.status.ready and not page.busy, timeout_s=60)
        assert tab_of(page).page.context is not context
        check_answer(await ask(page, "hello"), "hello", last(demo))
        assert browser.is_alive()
    finally:
        for process in renderers:
            if process.is_alive():
                os.kill(process.pid, signal.SIGCONT)

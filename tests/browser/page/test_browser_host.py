"""What pages that share a browser have of it, and what of it ends with each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext

from browser.errors import BrowserLost, EngineMissing
from browser.page import browser_host
from browser.page.browser_host import BrowserHost
from browser.settings import BrowserSettings
from tests.support.ports import free_range
from tests.support.waiting import HANG_LIMIT_S


def make(run_dir: Path, **settings: Path) -> BrowserHost:
    given = BrowserSettings.model_validate(settings)
    return BrowserHost(
        engine="chromium", headless=True, stream_port=free_range(1), run_dir=run_dir, settings=given, shared=True
    )


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[BrowserHost]:
    host = make(tmp_path)
    yield host
    await host.close()


async def test_a_share_closes_its_own_contexts_and_starts_the_browser_once(host: BrowserHost) -> None:
    one, other = (host.share(on_lost=lambda: None) for _ in range(2))
    await asyncio.gather(one.start(), other.start())
    mine = [await one.new_context() for _ in range(2)]
    theirs = await other.new_context()
    browser = await host.start()
    assert set(browser.contexts) == {*mine, theirs}
    await mine[0].close()
    await one.close()
    assert browser.contexts == [theirs]
    assert other.lost is None
    await other.close()
    assert browser.is_connected()


async def test_one_that_gives_up_takes_nobody_along(host: BrowserHost) -> None:
    lost: list[str] = []
    one, other = (host.share(on_lost=partial(lost.append, name)) for name in ("one", "other"))
    await asyncio.gather(one.start(), other.start())
    one.give_up()
    one.give_up()
    assert await asyncio.wait_for(one.wait_lost(), HANG_LIMIT_S) == "browser_lost"
    assert (lost, other.lost, host.process.lost) == (["one"], None, None)
    host.process.give_up()
    assert await asyncio.wait_for(other.wait_lost(), HANG_LIMIT_S) == "browser_lost"
    assert lost == ["one", "other"]


async def test_a_context_that_cannot_be_closed_ends_the_browser(
    host: BrowserHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever takes the login next must not share it with a page that goes on."""
    monkeypatch.setattr(browser_host, "CLOSE_CONTEXT_TIMEOUT_S", 0.05)
    lost: list[str] = []
    one, other = (host.share(on_lost=partial(lost.append, name)) for name in ("one", "other"))
    await asyncio.gather(one.start(), other.start())
    context = await one.new_context()

    async def hang(self: BrowserContext) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(type(context), "close", hang)
    browser = host.process.identity
    await one.close()
    assert not browser.is_alive()
    assert lost == ["other"]
    assert other.lost == "browser_lost"


async def test_a_browser_that_does_not_start_is_each_ones_failure(tmp_path: Path) -> None:
    host = make(tmp_path, browser_executable=tmp_path / "none")
    shares = [host.share(on_lost=lambda: None) for _ in range(2)]
    failures = await asyncio.gather(*(share.start() for share in shares), return_exceptions=True)
    assert [type(failure) for failure in failures] == [EngineMissing] * 2
    await asyncio.gather(*(share.close() for share in shares))
    await host.close()


async def test_a_context_that_is_being_opened_when_its_page_ends_is_closed(host: BrowserHost) -> None:
    """Its caller is cancelled, as a child's start is: the browser opens it all the same."""
    share = host.share(on_lost=lambda: None)
    await share.start()
    session = await (await host.start()).new_browser_cdp_session()  # Playwright forgets one whose opening is cancelled
    for turns in range(8):
        share = host.share(on_lost=lambda: None)
        await share.start()
        opening = asyncio.create_task(share.new_context())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await share.close()
        await asyncio.gather(opening, return_exceptions=True)
        assert (await session.send("Target.getBrowserContexts"))["browserContextIds"] == []
        assert host.process.lost is None
        with pytest.raises(BrowserLost):
            await share.new_context()

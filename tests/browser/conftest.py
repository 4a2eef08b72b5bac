from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from browser.page import profile_lock
from browser.page.chat_page import ChatPage
from browser.page.tab import Tab
from browser.settings import BrowserSettings, EngineName
from browser.site.load import SITES_DIR, Site, parse_site
from demo.site import DemoSite, serve
from tests.browser.profiles import cookie_state, write_profile
from tests.support.ports import free_range


def demo_file(site: DemoSite, path: str = "/chat", **replacements: str) -> Site:
    """The demo's site file for a running demo site; `replacements` of its text by name=old|new."""
    text = (SITES_DIR / "demo.toml").read_text()
    for change in replacements.values():
        old, new = change.split("|", 1)
        assert old in text
        text = text.replace(old, new)
    return parse_site(text, "demo.toml", url=f"{site.url}{path}")


def tab_of(page: ChatPage) -> Tab:
    """The page's tab, to do to it what a site or a person would."""
    assert page._opened
    return page._opened.page.tab


@pytest.fixture(scope="session", autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the locks of logins in a folder of this process: tests beside it use some of the same logins, such as none.

    Programs that a test starts have the real folder, and logins that no other test has.
    """
    folder = tmp_path_factory.mktemp("locks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_lock, "locks_dir", lambda: folder)
        yield


@pytest.fixture
async def demo() -> AsyncIterator[DemoSite]:
    async with serve() as site:
        yield site


class Pages:
    """Opens pages in real browsers and closes them all in the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._open = AsyncExitStack()

    async def open(
        self,
        site: Site,
        state: dict[str, Any],
        *,
        engine: EngineName = "chromium",
        run_dir: Path | None = None,
        **settings: Any,
    ) -> ChatPage:
        page = self.make(site, state, engine=engine, run_dir=run_dir, **settings)
        await page.start()
        return page

    def make(
        self,
        site: Site,
        state: dict[str, Any],
        *,
        engine: EngineName = "chromium",
        run_dir: Path | None = None,
        **settings: Any,
    ) -> ChatPage:
        self._count += 1
        page = ChatPage(
            site=site,
            profile=write_profile(self._folder / f"profile-{self._count}.json", state),
            engine=engine,
            headless=True,
            stream_port=free_range(1),
            run_dir=run_dir or self._new_run_dir(),
            settings=BrowserSettings(**settings),
        )
        self._open.push_async_callback(page.close)
        return page

    def _new_run_dir(self) -> Path:
        folder = self._folder / f"run-{self._count}"
        folder.mkdir(mode=0o700)
        return folder

    async def close(self) -> None:
        await self._open.aclose()


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Pages]:
    pages = Pages(tmp_path)
    yield pages
    await pages.close()


@pytest.fixture
async def page(pages: Pages, demo: DemoSite) -> ChatPage:
    """A page of the demo site, logged in and ready."""
    return await pages.open(demo_file(demo), cookie_state(demo))

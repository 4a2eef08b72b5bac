from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.async_api import Browser, BrowserContext, BrowserType

from browser.page import profile_lock
from browser.page.browser_host import BrowserHost
from browser.page.chat_page import ChatPage
from browser.page.site_page import COMMON
from browser.page.tab import Tab
from browser.process.browser_process import BrowserProcess
from browser.process.own_proxy import own_proxy_of
from browser.settings import BrowserSettings, EngineName
from browser.site.load import SITES_DIR, Site, parse_site
from contract.claim_deadline import NO_FENCE, ClaimDeadline
from contract.processes import ProcessIdentity
from contract.proxies import Proxy
from contract.surroundings import Surroundings
from demo.site import DemoSite, SiteOptions, serve
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


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder as pytest's own, with a short path: Chromium puts a socket below it, whose path has 107 bytes at most.

    Pytest's has its user, its worker and its test in it.
    """
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session", autouse=True)
def own_locks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the locks of logins in a folder of this process: tests beside it use some of the same logins, such as none.

    Programs that a test starts have the real folder, and logins that no other test has.
    """
    folder = tmp_path_factory.mktemp("locks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_lock, "locks_dir", lambda: folder)
        yield


@pytest.fixture(scope="module")
async def browser(shared_browser: SharedBrowser) -> Browser:
    """The shared Chromium, without a chat page."""
    return await shared_browser.browser()


@pytest.fixture(scope="module", params=["chromium", pytest.param("firefox", marks=pytest.mark.firefox)])
async def each_browser(request: pytest.FixtureRequest, shared_browser: SharedBrowser) -> Browser:
    """Each engine in turn, as `browser`."""
    return await (shared_browser.browser() if request.param == "chromium" else shared_browser.firefox())


@pytest.fixture
async def demo() -> AsyncIterator[DemoSite]:
    async with serve() as site:
        yield site


class SharedBrowser:
    """One Chromium for many tests, for pages that leave it as they found it, and one Firefox; started when needed."""

    def __init__(self, run_dir: Path, **settings: Any) -> None:
        self._run_dir, self._settings = run_dir, settings
        self.host = self._make("chromium", run_dir)
        self._firefoxes: list[BrowserHost] = []

    def _make(self, engine: EngineName, run_dir: Path) -> BrowserHost:
        return BrowserHost(
            engine=engine,
            headless=True,
            stream_port=free_range(1),
            run_dir=run_dir,
            settings=BrowserSettings(**self._settings),
            shared=True,
        )

    def host_of(self, engine: EngineName) -> BrowserHost | None:
        """Return what shares a browser of that engine; None if there is none."""
        if engine == "chromium":
            return self.host
        if engine != "firefox":  # Camoufox is made of Firefox by a patch that ends with a test
            return None
        if not self._firefoxes or self._firefoxes[-1].process.lost:
            run_dir = self._run_dir / f"firefox-{len(self._firefoxes)}"
            run_dir.mkdir(mode=0o700)
            self._firefoxes.append(self._make(engine, run_dir))
        return self._firefoxes[-1]

    async def browser(self) -> Browser:
        """Return the running Chromium."""
        return await self.host.start()

    async def firefox(self) -> Browser:
        """Return the running Firefox."""
        host = self.host_of("firefox")
        assert host
        return await host.start()

    @property
    def is_lost(self) -> bool:
        """Whether a test has cost Chromium its life."""
        return self.host.process.lost is not None

    async def close_contexts(self) -> None:
        """Close what tests left open."""
        for host in (self.host, *self._firefoxes):
            if host._starting and not host.process.lost:
                for context in tuple((await host.start()).contexts):
                    await context.close()

    async def close(self) -> None:
        """End both."""
        for host in (self.host, *self._firefoxes):
            await host.close()


class SharedBrowserProcess(BrowserProcess):
    """What stands for a browser's process where the shared browser is used: closing it closes its contexts, no more."""

    def __init__(self, shared: SharedBrowser, run_dir: Path) -> None:
        super().__init__(engine="chromium", headless=True, run_dir=run_dir, settings=BrowserSettings())
        self._share = shared.host.share(on_lost=lambda: None)

    @property
    def identity(self) -> ProcessIdentity:
        """Return the shared browser's process."""
        return self._share.identity

    async def start(self) -> Browser:
        """Return what takes the browser's place for a page: of a browser it asks for new contexts and its version."""
        await self._share.start()
        return cast("Browser", self)

    @property
    def browser_type(self) -> BrowserType:
        """Return what kind of browser it is, as a browser does."""
        return self._share.browser_type

    @property
    def version(self) -> str:
        """Return the browser's version, as a browser does."""
        assert self._share._browser
        return self._share._browser.version

    async def new_context(self, **options: Any) -> BrowserContext:
        """Open a context in the shared browser."""
        return await self._share.new_context(**options)

    async def close(self) -> None:
        """Close this one's contexts. Idempotent."""
        await self._share.close()


class Pages:
    """Opens pages in real browsers and closes them all in the end."""

    def __init__(self, folder: Path, shared: SharedBrowser | None = None) -> None:
        """Give each page a browser of its own, or a context in the shared one of its engine."""
        self._folder = folder
        self._shared = shared
        self._count = 0
        self._open = AsyncExitStack()

    async def open(
        self,
        site: Site,
        state: dict[str, Any],
        *,
        engine: EngineName = "chromium",
        run_dir: Path | None = None,
        surroundings: Surroundings = COMMON,
        proxy: Proxy | None = None,
        claim: ClaimDeadline = NO_FENCE,
        **settings: Any,
    ) -> ChatPage:
        """Start a page, and return it when it is up; `settings` are those of BrowserSettings."""
        page = self.make(
            site, state, engine=engine, run_dir=run_dir, surroundings=surroundings, proxy=proxy, claim=claim, **settings
        )
        await page.start()
        return page

    def make(
        self,
        site: Site,
        state: dict[str, Any],
        *,
        engine: EngineName = "chromium",
        run_dir: Path | None = None,
        surroundings: Surroundings = COMMON,
        proxy: Proxy | None = None,
        claim: ClaimDeadline = NO_FENCE,
        **settings: Any,
    ) -> ChatPage:
        """Make a page that has not been started."""
        self._count += 1
        run_dir, given = run_dir or self._new_run_dir(), BrowserSettings(**settings)
        shared = self._shared.host_of(engine) if self._shared else None
        own = BrowserHost(
            engine=engine,
            headless=True,
            stream_port=free_range(1),
            run_dir=run_dir,
            settings=given,
            own_proxy=own_proxy_of(proxy, site.url, given),
            claim=claim,
        )
        page = ChatPage(
            site=site,
            profile=write_profile(self._folder / f"profile-{self._count}.json", state),
            host=shared or own,
            run_dir=run_dir,
            settings=given,
            surroundings=surroundings,
        )
        self._open.push_async_callback(page.close)
        return page

    def _new_run_dir(self) -> Path:
        folder = self._folder / f"run-{self._count}"
        folder.mkdir(mode=0o700)
        return folder

    async def close(self) -> None:
        """Close all of them."""
        await self._open.aclose()


def lasting_page(options: SiteOptions | None = None, *, own_browser: bool = False) -> tuple[Any, Any, Any]:
    """Return the fixtures `demo`, `folder` and `page` of a module: one page for all its tests, in turn.

    Each test must leave the page ready. The folder holds the page's profile and run folder. With `own_browser` the
    tests may stop or kill its browser.
    """

    @pytest.fixture(scope="module")
    async def demo() -> AsyncIterator[DemoSite]:
        async with serve(options) as site:
            yield site

    @pytest.fixture(scope="module")
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("pages")

    @pytest.fixture(scope="module")
    async def page(demo: DemoSite, folder: Path, shared_browser: SharedBrowser) -> AsyncIterator[ChatPage]:
        pages = Pages(folder, None if own_browser else shared_browser)
        yield await pages.open(demo_file(demo), cookie_state(demo))
        await pages.close()

    return demo, folder, page


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Pages]:
    """Pages in browsers of their own."""
    pages = Pages(tmp_path)
    yield pages
    await pages.close()


@pytest.fixture
async def page(pages: Pages, demo: DemoSite) -> ChatPage:
    """A page of the demo site in a browser of its own, logged in and ready."""
    return await pages.open(demo_file(demo), cookie_state(demo))


class Browsers:
    """The browser that all modules of this worker share, and those that took the place of one that a test ended."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._started: list[SharedBrowser] = []

    async def running(self) -> SharedBrowser:
        """Return one that runs."""
        if not self._started or self._started[-1].is_lost:
            self._started.append(SharedBrowser(self._folders.mktemp("browser")))
        # Now, before a test sets an environment of its own.
        await self._started[-1].browser()
        return self._started[-1]

    async def close(self) -> None:
        """End all of them."""
        for shared in self._started:
            await shared.close()


@pytest.fixture(scope="package")
async def browsers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browsers]:
    browsers = Browsers(tmp_path_factory)
    yield browsers
    await browsers.close()


@pytest.fixture(scope="module")
async def shared_browser(browsers: Browsers) -> AsyncIterator[SharedBrowser]:
    shared = await browsers.running()
    yield shared
    await shared.close_contexts()


@pytest.fixture
async def shared_pages(tmp_path: Path, shared_browser: SharedBrowser) -> AsyncIterator[Pages]:
    """Pages in the shared browser: starting one takes half of a test's time."""
    pages = Pages(tmp_path, shared_browser)
    yield pages
    await pages.close()


@pytest.fixture
async def shared_page(shared_pages: Pages, demo: DemoSite) -> ChatPage:
    """A page of the demo site in the shared browser, logged in and ready."""
    return await shared_pages.open(demo_file(demo), cookie_state(demo))

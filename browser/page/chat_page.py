"""The chat page as its callers see it: ask it, watch it, close it."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import structlog
from playwright.async_api import Error

from browser.capture.capture import Capture
from browser.errors import (
    BrowserError,
    BrowserLost,
    CaptureGap,
    FirstTokenTimeout,
    LoginExpired,
    ModelNotFound,
    NotStarted,
    PageBroken,
    PromptRejected,
    ScreenshotTimeout,
    SiteFailed,
    StreamIdleTimeout,
)
from browser.page.completion import Turn
from browser.page.context import open_context
from browser.page.images import Image, ImageLimits
from browser.page.page_monitor import Keeper
from browser.page.page_status import Condition, PageStatus
from browser.page.profile import load_profile, state_to_open
from browser.page.profile_lock import ProfileLock
from browser.page.session import SessionKeeper
from browser.process.browser_process import BrowserHost, Loss
from browser.settings import BrowserSettings, EngineName
from browser.site.schema import Model, Site
from browser.timeouts import finish
from contract.files import append_line

__all__ = ["ChatPage", "PageStatus"]

log = structlog.get_logger("browser")

SUBMITTED_FILE = "submitted"
REMEMBERED_REQUESTS = 10_000
CLOSE_TASKS_TIMEOUT_S = 1.0
# What a lost login may look like at first.
SYMPTOMS = (CaptureGap, FirstTokenTimeout, PageBroken, PromptRejected, SiteFailed, StreamIdleTimeout)
SCREENSHOT_TIMEOUT_S = 10.0


class ChatPage:
    """One logged-in chat page in a browser of its own. Takes one prompt at a time; others wait their turn."""

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        site: Site,
        profile: Path,
        engine: EngineName,
        headless: bool,
        stream_port: int,
        run_dir: Path,
        settings: BrowserSettings,
    ) -> None:
        self._site = site
        self._profile = profile
        self._engine = engine
        self._run_dir = run_dir
        self._settings = settings
        self._host = BrowserHost(
            engine=engine, headless=headless, run_dir=run_dir, settings=settings, on_lost=self._start_closing
        )
        self._capture = Capture(site, stream_port, engine)
        self._condition = Condition()
        self._submitted: OrderedDict[str, None] = OrderedDict()
        self._cleaning: set[asyncio.Task[None]] = set()
        self._lock: ProfileLock | None = None
        self._session: SessionKeeper | None = None
        self._keeper: Keeper | None = None
        self._watch: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def status(self) -> PageStatus:
        reason, detail = self._condition.reason_and_detail()
        if self._host.lost:
            reason, detail = "browser_lost", "the browser's process is gone"
        expires_at = self._session.login_expires_at if self._session else None
        rest_s = self._condition.rest_s() if reason == "quota" else None
        return PageStatus(reason is None, reason, detail, self._capture.way, expires_at, rest_s)

    @property
    def busy(self) -> bool:
        """Tell whether the page is in use: by a prompt, or on the way to its next empty conversation."""
        return self._keeper is not None and self._keeper.use.locked()

    @property
    def models(self) -> tuple[str, ...]:
        return self._site.models

    @property
    def image_limits(self) -> ImageLimits | None:
        """How many images the page takes with a prompt, and how large; None if it takes none."""
        upload = self._site.upload
        return ImageLimits(upload.max_images, upload.max_image_bytes) if upload else None

    async def wait_lost(self) -> Loss:
        """Return as soon as the browser's process or the driver's is dead, with which of the two."""
        return await self._host.wait_lost()

    def was_submitted(self, request_id: str) -> bool:
        """Tell whether the request's prompt may have reached the site."""
        return request_id in self._submitted

    async def start(self) -> None:
        """Start the browser and open the page; `status` then says how it is, logged out included.

        Raises ProfileError, ProfileLocked, StreamPortTaken, EngineMissing, TrustError, BrowserLost.
        """
        if self._closing:
            raise RuntimeError("a page is started once")
        try:
            await self._start()
        except Error:
            await self.close()
            raise BrowserLost("the browser ended while it was starting") from None
        except BaseException:
            await finish(self.close(), "page-close")
            raise

    async def _start(self) -> None:
        profile = load_profile(self._profile)
        self._lock = await ProfileLock.acquire(profile.fingerprint, self._profile.name)
        state = state_to_open(profile, self._run_dir)
        await self._capture.stream_port.start()
        browser = await self._host.start()
        self._lock.note_browser(self._host.browser_process)
        await self._capture.stream_port.serving()
        self._session = SessionKeeper(profile, state, self._run_dir, self._site.url)
        self._keeper = Keeper(
            site=self._site,
            capture=self._capture,
            settings=self._settings,
            condition=self._condition,
            context=await open_context(browser, self._engine, self._site, state, self._capture),
            session=self._session,
            is_lost=lambda: self._host.lost is not None,
        )
        await self._keeper.open()
        self._watch = asyncio.create_task(self._keeper.run(), name="page-watch")
        self._watch.add_done_callback(self._watch_ended)

    def _watch_ended(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled() and (error := watch.exception()) and not self._host.lost:
            log.error("page_watch_failed", error=type(error).__name__)
            self._condition.set_error(PageBroken("the page is no longer watched"))

    async def ask(
        self, request_id: str, prompt: str, model: str, images: Sequence[Image] = ()
    ) -> AsyncGenerator[str, None]:
        """Send a prompt with its images on an empty conversation and yield the answer's text as it comes, in order.

        The generator's end is the answer's end. Closing it, or cancelling whoever reads it, stops the answer
        and returns when the page is on an empty conversation again. Raises BrowserError.
        """
        choice = self._choice(model)
        if self._keeper is None or self._closing:
            raise NotStarted("the page is not up")
        keeper = self._keeper
        await keeper.use.acquire()
        turn, was_left = None, False
        try:
            tab = await keeper.require_fresh()
            mark = lambda: self._mark_submitted(request_id)  # noqa: E731
            turn = keeper.turn = Turn(tab=tab, capture=self._capture, settings=self._settings, mark_submitted=mark)
            async with aclosing(turn.pieces(prompt, choice, images)) as pieces:
                async for piece in pieces:
                    yield piece
        except (GeneratorExit, asyncio.CancelledError):
            was_left = True
            raise
        except Exception as error:  # noqa: BLE001 - a dead driver comes as a plain Exception
            raise await self._judge(error, keeper, turn) from None
        finally:
            await self._clean_up(keeper, turn, wait=was_left)

    async def screenshot(self, timeout_s: float = SCREENSHOT_TIMEOUT_S) -> bytes:
        """Return a PNG of what the page shows now, whoever's answer that is. The page does not notice.

        Raises NotStarted, BrowserLost, PageBroken, or ScreenshotTimeout after timeout_s seconds.
        """
        if self._keeper is None or self._closing:
            raise BrowserLost("the browser died") if self._host.lost else NotStarted("the page is not up")
        try:
            return await self._keeper.tab.picture(timeout_s)
        except TimeoutError:
            raise ScreenshotTimeout(f"the page gave no picture within {timeout_s:g} s; it may hang") from None
        except Exception as error:  # noqa: BLE001 - a dead driver comes as a plain Exception
            raise await self._judge_picture(error) from None

    async def _judge_picture(self, error: Exception) -> BrowserError:
        if await self._host.is_lost_soon():
            return BrowserLost("the browser died")
        return error if isinstance(error, BrowserError) else PageBroken("the page could not be pictured")

    def _choice(self, model: str) -> Model:
        for choice in self._site.model_choices:
            if choice.name == model:
                return choice
        raise ModelNotFound(f"there is no such model; this site has {', '.join(self.models)}")

    def _mark_submitted(self, request_id: str) -> None:
        try:
            append_line(self._run_dir / SUBMITTED_FILE, request_id)
        except OSError as error:
            raise PageBroken(f"the run folder cannot be written to: {error.strerror}; nothing was sent") from None
        self._submitted[request_id] = None
        if len(self._submitted) > REMEMBERED_REQUESTS:
            self._submitted.popitem(last=False)

    async def _judge(self, error: Exception, keeper: Keeper, turn: Turn | None) -> Exception:
        """Return the error to raise: a dead browser, driver or login comes before all that followed of it."""
        submitted = turn is not None and turn.submitted
        is_strange = not isinstance(error, BrowserError)
        if self._host.lost or ((is_strange or keeper.tab_is_gone) and await self._host.is_lost_soon()):
            return BrowserLost("the browser died", submitted=submitted)
        if isinstance(error, Error):
            error = PageBroken("the page went away")
        if isinstance(error, SYMPTOMS) and not keeper.tab_is_gone and await keeper.is_logged_out():
            error = LoginExpired("the site's session is over", submitted=error.submitted)
        if isinstance(error, BrowserError):
            error.submitted = error.submitted or submitted
            self._condition.set_error(error)
        return error

    async def _clean_up(self, keeper: Keeper, turn: Turn | None, *, wait: bool) -> None:
        """Bring the page to an empty conversation and let go of it; with `wait`, return only then."""
        work = self._release(keeper, turn)
        if wait:
            await finish(work, "page-clean-up")
            return
        task = asyncio.create_task(work, name="page-clean-up")
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def _release(self, keeper: Keeper, turn: Turn | None) -> None:
        try:
            if turn is not None and self._host.lost:
                turn.abandon()
            elif turn is not None:
                await self._tidy(keeper, turn)
        finally:
            keeper.turn = None
            keeper.use.release()
        if not self._host.lost:
            await keeper.save_news()

    async def _tidy(self, keeper: Keeper, turn: Turn) -> None:
        try:
            await turn.end()
            keeper.turn = None
            # An image may still be on its way into the composer, where the next caller would send it.
            await keeper.freshen(stop=turn.submitted and not turn.over, anew=turn.had_images)
        except Exception as error:  # noqa: BLE001 - whatever it is, the page must be let go of, and is made anew
            if not await self._host.is_lost_soon():
                log.warning("page_clean_up_failed", error=type(error).__name__)
                self._condition.set_error(PageBroken("the page could not be brought to an empty conversation"))

    async def close(self) -> None:
        """Save the login, end the browser, free port and profile. Takes about 6 seconds at most.

        When the browser is lost this begins by itself.
        """
        await asyncio.shield(self._start_closing())

    def _start_closing(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="page-close")
        return self._closing

    async def _close(self) -> None:
        self._end_turn()
        if not self._host.lost:
            await self._end_tasks()
            await self._save_session()
        await self._host.close()
        await self._end_tasks()
        await self._capture.stream_port.stop()
        if self._lock:
            self._lock.release()

    async def _save_session(self) -> None:
        if self._keeper:
            await self._keeper.save_session()

    def _end_turn(self) -> None:
        if self._keeper and self._keeper.turn:
            self._keeper.turn.interrupt(BrowserLost("the browser is gone"))

    async def _end_tasks(self) -> None:
        tasks = set(self._cleaning)
        if self._watch:
            self._watch.cancel()
            tasks.add(self._watch)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_TASKS_TIMEOUT_S)
            for task in late:
                task.cancel()

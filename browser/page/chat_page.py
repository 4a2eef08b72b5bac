"""The chat page as its callers see it: ask it, watch it, close it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from playwright.async_api import Error

from browser.capture.capture import Capture
from browser.errors import (
    BrowserError,
    BrowserLost,
    ClaimLost,
    LoginExpired,
    ModelNotFound,
    NotStarted,
    PageBroken,
    ScreenshotTimeout,
)
from browser.page.browser_host import BrowserHost
from browser.page.completion import Completion
from browser.page.conversation import Conversation, EnoughRead, PageTurns
from browser.page.images import Image, ImageLimits
from browser.page.login_refresh import LoginRefresh
from browser.page.login_steps import LoginLog, StepLogin
from browser.page.login_watch import SYMPTOMS, LoginWatch, SessionKeeper
from browser.page.page_monitor import PageMonitor
from browser.page.page_status import PageStatus, RefreshStatus, StatusSnapshot
from browser.page.profile import LoadedProfile, load_profile, state_to_open
from browser.page.profile_lock import ProfileLock
from browser.page.session_report import SessionLog
from browser.page.site_page import COMMON, SitePage
from browser.process.loss import Loss
from browser.settings import BrowserSettings
from browser.site.schema import PromptTexts, Site
from browser.timeouts import finish
from contract.child_api import UnreadyReason
from contract.run_folder import mark_submitted, submission_id, unmark_submitted
from contract.storage_state.summary import NO_LOGIN
from contract.surroundings import Surroundings

log = structlog.get_logger("browser")

REMEMBERED_REQUESTS = 10_000
CLOSE_TASKS_TIMEOUT_S = 1.0
SCREENSHOT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class _Opened:
    """What works with the page once the browser is up."""

    page: SitePage
    login: LoginWatch
    refresh: LoginRefresh | None
    monitor: PageMonitor


class ChatPage:
    """One logged-in chat page, in a browser of its own or in its share of one.

    It has one conversation at a time, first come first served. `exclusive` is the only lock that sees to it: a
    conversation holds it until the page is on an empty one again, and the monitor while it recovers the page.
    """

    def __init__(  # noqa: PLR0913 - all by keyword
        self,
        *,
        site: Site,
        profile: Path,
        host: BrowserHost,
        run_dir: Path,
        settings: BrowserSettings,
        surroundings: Surroundings = COMMON,
    ) -> None:
        """`host` is the browser that it opens in; it ends with the page unless it is shared."""
        self.exclusive = asyncio.Lock()  # asyncio's lock wakes its waiters in the order they came
        self._site = site
        self._profile = profile
        self._run_dir = run_dir
        self._settings = settings
        self._surroundings = surroundings
        self._claim = host.claim
        self._capture = Capture(site, host.port, host.engine)
        self._browser = host.share(on_lost=self._start_closing)
        self._browser.receive(self._capture.receiver)
        self._status = PageStatus()
        self._session_log = SessionLog()
        self._submitted: OrderedDict[str, None] = OrderedDict()
        self._lock: ProfileLock | None = None
        self._opened: _Opened | None = None
        self._completion: Completion | None = None
        self._releases: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self.is_abandoned = False
        """Whether its session is worth nothing any more, nor an answer that it gives."""

    @property
    def status(self) -> StatusSnapshot:
        """Whether the page can take a prompt now, and if not, why. A running answer does not make it unready."""
        reason, detail = self._status.reason_and_detail()
        if self._browser.lost:
            reason, detail = UnreadyReason.BROWSER_LOST, "the browser's process is gone"
        return StatusSnapshot(
            ready=reason is None,
            reason=reason,
            detail=detail,
            capture=self._capture.mode,
            login_expires_at=self._opened.login.expires_at if self._opened else None,
            rest_s=self._status.rest_s if reason is UnreadyReason.QUOTA else None,
            session=self._session_log.report,
            refresh=self._refresh_status(),
            asleep=self._opened is not None and self._opened.page.is_asleep,
        )

    def _refresh_status(self) -> RefreshStatus:
        if self._opened is None:
            return RefreshStatus()
        refresh, page = self._opened.refresh, self._opened.page
        status = refresh.status if refresh else RefreshStatus()
        return replace(status, keeps_login=True) if page.can_log_in else status

    @property
    def busy(self) -> bool:
        """Whether the page is in use: by a prompt, until the next empty conversation is open, or by a recovery."""
        return self.exclusive.locked()

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models that the site file lists."""
        return self._site.models

    @property
    def prompt_texts(self) -> PromptTexts:
        """How this page is told of tools and formats."""
        return self._site.prompt

    @property
    def image_limits(self) -> ImageLimits | None:
        """How many images the page takes with a prompt, and how large; None if it takes none."""
        upload = self._site.upload
        return ImageLimits(upload.max_images, upload.max_image_bytes) if upload else None

    @property
    def site_page(self) -> SitePage:
        """The page in its browser, for what works beside it. Raises BrowserLost, NotStarted."""
        return self._require_open().page

    async def wake(self) -> None:
        """Open the page again if it is asleep, for what works beside it. Raises BrowserLost, NotStarted."""
        opened = self._require_open()
        if opened.page.is_asleep:
            async with self.exclusive:
                await opened.monitor.wake()

    async def wait_lost(self) -> Loss:
        """Return as soon as the browser's process or the driver's is dead, with which of the two."""
        return await self._browser.wait_lost()

    def was_submitted(self, request_id: str) -> bool:
        """Return whether the request's prompt may have reached the site."""
        return request_id in self._submitted

    async def start(self) -> None:
        """Start the browser and open the page; `status` then says how it is, logged out included.

        Raises ProfileError, ProfileLocked, StreamPortTaken, EngineMissing, TrustError, BrowserLost.
        """
        if self._closing:
            raise RuntimeError("a page is started once")
        try:
            profile = load_profile(self._profile)
            profile.check_fits(self._site)
            if profile.fingerprint != NO_LOGIN:
                self._lock = await ProfileLock.acquire(profile.fingerprint, self._profile.name)
            state = state_to_open(profile, self._run_dir, session_log=self._session_log)
            await self._browser.start()
            if self._lock:
                self._lock.note_browser(self._browser.identity, self._browser.host.run_dir)
            by = self._site.login.expires_by
            session = SessionKeeper(
                profile,
                state,
                self._run_dir,
                self._site.url,
                session_log=self._session_log,
                expires_by=by,
                claim=self._claim,
            )
            page = await SitePage.in_new_context(
                self._browser,
                self._site,
                state=state,
                capture=self._capture,
                on_crash=self._page_crashed,
                log_in=self._step_login(profile),
                surroundings=self._surroundings,
                own_proxy=self._browser.host.own_proxy,
            )
            login = LoginWatch(page, session, self._status, self._settings.login_check_s, self._browser.give_up)
            how = self._site.login.refresh
            refresh = LoginRefresh(page, login, how, self._site.place) if how else None
            monitor = PageMonitor(
                page=page,
                status=self._status,
                login=login,
                refresh=refresh,
                exclusive=self.exclusive,
                current=lambda: self._completion,
                settings=self._settings,
                give_up=self._browser.give_up,
            )
            self._opened = _Opened(page, login, refresh, monitor)
            async with self.exclusive:
                await monitor.recover()
            self._watch = asyncio.create_task(monitor.run(), name="page-watch")
            self._watch.add_done_callback(self._watch_ended)
        except Error:
            await self.close()
            raise BrowserLost("the browser ended while it was starting") from None
        except BaseException:
            await finish(self.close(), "page-close")
            raise

    def _step_login(self, profile: LoadedProfile) -> StepLogin | None:
        """Return what logs the page in, if the site file and the profile's secrets say how."""
        login = self._site.login
        if not (login.steps and self._site.secrets <= profile.secrets.keys()):
            return None
        return StepLogin(profile.secrets, LoginLog(self._run_dir, profile.sha256, login.max_per_hour))

    def _page_crashed(self) -> None:
        if self._completion:
            self._completion.interrupt(PageBroken("the page crashed"))

    def _watch_ended(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled() and (error := watch.exception()) and not self._browser.lost:
            log.error("page_watch_failed", error=type(error).__name__)
            self._status.set_error(PageBroken("the page is no longer watched"))

    def converse(self, request_id: str, model: str) -> Conversation:
        """Return a conversation for this request, which `async with` begins. Raises ModelNotFound, BrowserError."""
        choice = next((choice for choice in self._site.model_choices if choice.name == model), None)
        if choice is None:
            raise ModelNotFound(f"there is no such model; this site has {', '.join(self.models)}")
        opened = self._require_open()

        async def begin(number: int, earlier: Completion | None) -> Completion:
            return await self._begin(submission_id(request_id, number), earlier)

        async def explain(number: int, error: Exception, completion: Completion | None) -> Exception:
            explained = await self._explain(error, opened, completion)
            if isinstance(explained, BrowserError) and completion is not None:
                self._take_mark_back(submission_id(request_id, number), explained, completion)
                # Whatever became of a prompt that follows, the page has answered the first.
                explained.submitted = explained.submitted or number > 1
            return explained

        turns = PageTurns(begin, explain, lambda completion: self._release(opened, completion))
        return Conversation(turns=turns, model=choice, exclusive=self.exclusive, releases=self._releases)

    async def ask(
        self, request_id: str, prompt: str, model: str, images: Sequence[Image] = ()
    ) -> AsyncGenerator[str, None]:
        """Wait for the page, ask it in a conversation of its own, and yield the answer's text as it comes, in order.

        The end of the generator ends the conversation too. Raises BrowserError.
        """
        async with (
            self.converse(request_id, model) as conversation,
            aclosing(conversation.ask(prompt, images)) as pieces,
        ):
            async for piece in pieces:
                try:
                    if isinstance(piece, str):
                        yield piece
                except EnoughRead:
                    return

    def _require_open(self) -> _Opened:
        """Return what works with the page. Raises BrowserLost or NotStarted if it is not open, or is being closed."""
        if self._opened is None or self._closing:
            raise BrowserLost("the browser died") if self._browser.lost else NotStarted("the page is not up")
        return self._opened

    async def _begin(self, submission: str, earlier: Completion | None) -> Completion:
        opened = self._require_open()  # it may have been closed in the meantime
        if earlier is None:
            await opened.monitor.wake()
            self._status.require_ready()
            if not opened.page.is_fresh:
                await opened.login.save_cookies()  # what opens an empty conversation may use them
            tab = await opened.page.take_fresh_chat()
        else:
            await earlier.end_answer()
            tab = opened.page.tab
        await opened.login.save_cookies()  # the prompt uses them
        self._completion = Completion(
            tab=tab,
            capture=self._capture,
            settings=self._settings,
            mark_submitted=lambda: self._mark_submitted(submission),
            follows=earlier is not None,
        )
        self._completion.had_images = earlier is not None and earlier.had_images
        return self._completion

    def _mark_submitted(self, submission: str) -> None:
        """Note that the prompt is about to be sent. Raises PageBroken, and ClaimLost if another may use the login."""
        self._require_claim()
        try:
            mark_submitted(self._run_dir, submission)
        except OSError as error:
            raise PageBroken(f"the run folder cannot be written to: {error.strerror}; nothing was sent") from None
        self._submitted[submission] = None
        if len(self._submitted) > REMEMBERED_REQUESTS:
            self._submitted.popitem(last=False)
        # Again: the disk may have taken its time, and nothing but the sending itself comes after this.
        try:
            self._require_claim()
        except ClaimLost as error:
            error.submitted = not self._unmark(submission)
            raise

    def _require_claim(self) -> None:
        if self._claim.is_over:
            raise ClaimLost("the login may be another coordinator's by now; nothing was sent")

    def _unmark(self, submission: str) -> bool:
        """Take a mark back; return False if it stands, and nobody submits the prompt again."""
        try:
            unmark_submitted(self._run_dir, submission)
        except OSError:
            return False
        del self._submitted[submission]
        return True

    def _take_mark_back(self, submission: str, error: BrowserError, completion: Completion) -> None:
        """Let the request go on to another login if the site itself says that it did not take the prompt."""
        if submission not in self._submitted or not completion.is_not_taken(error):
            return
        if self._unmark(submission):
            error.submitted = False

    async def _explain(self, error: Exception, opened: _Opened, completion: Completion | None) -> Exception:
        """Return the error to raise: a dead browser, driver or login comes before all that followed from it."""
        submitted = completion is not None and completion.submitted
        is_unexpected = not isinstance(error, BrowserError)
        if self._browser.lost or ((is_unexpected or opened.page.is_gone) and await self._browser.is_lost_soon()):
            return BrowserLost("the browser died", submitted=submitted)
        if isinstance(error, Error):
            error = PageBroken("the page went away")
        if isinstance(error, SYMPTOMS) and not opened.page.is_gone and await opened.login.is_logged_out():
            error = LoginExpired("the site's session is over", submitted=error.submitted)
        if isinstance(error, SYMPTOMS) and (problem := await opened.page.find_proxy_problem()):
            error = type(problem)(str(problem), submitted=error.submitted)
        if isinstance(error, BrowserError):
            error = await opened.login.judge(error)
            error.submitted = error.submitted or submitted
            self._status.set_error(opened.login.for_status(error))
        return error

    async def _release(self, opened: _Opened, completion: Completion | None) -> None:
        """Bring the page to an empty conversation, let the next prompt have it, and save the session."""
        try:
            if completion is not None and self._browser.lost:
                completion.abandon()
            elif completion is not None:
                await self._reset(opened, completion)
        except Exception as error:  # noqa: BLE001 - whatever it is, the page must be released; the monitor recovers it
            if not await self._browser.is_lost_soon():
                log.warning("page_clean_up_failed", error=type(error).__name__)
                self._status.set_error(PageBroken("the page could not be brought to an empty conversation"))
        finally:
            self._completion = None
            self.exclusive.release()
        if not self._browser.lost:
            await opened.login.save_if_changed()

    async def _reset(self, opened: _Opened, completion: Completion) -> None:
        """Stop the answer if it goes on, and open an empty conversation ahead of the next prompt.

        Where the site's own way of opening one fails the page is loaded anew; if that fails too, the status says so.
        """
        await completion.end()
        self._completion = None  # what a look finds from here on is not this completion's any more
        must_stop = completion.submitted and not completion.answer_ended
        if self._status.hangs or self._status.page_reason is not None:
            # Nothing can be done on the page now. The monitor stops the answer and loads the page when it can.
            opened.page.answer_left_running = must_stop
            opened.monitor.recover_soon()
            return
        try:
            if must_stop:
                await opened.page.tab.stop_answer()
            if completion.had_images:
                # An image may still be on its way into the composer, and the next prompt would send it.
                await opened.monitor.recover()
                return
            await opened.login.save_cookies()
            await opened.page.open_fresh_chat()
            opened.login.note_use()
        except BrowserError as error:
            log.warning("fresh_chat_failed", detail=str(error))
            if isinstance(error, LoginExpired) and await opened.login.holds() is False:
                await opened.monitor.set_failed(error)  # the site has said so itself: no further load is needed to tell
            else:
                await opened.monitor.recover()

    async def screenshot(self, timeout_s: float = SCREENSHOT_TIMEOUT_S) -> bytes:
        """Return a PNG of what the page shows now, whoever's answer that is. The page does not notice.

        While the page is being logged in by steps, it waits for their end: the secrets would be in the picture.
        Raises NotStarted, BrowserLost, PageBroken, or ScreenshotTimeout after timeout_s seconds.
        """
        opened = self._require_open()
        try:
            async with asyncio.timeout(timeout_s):
                await self.wake()
            async with asyncio.timeout(timeout_s), opened.page.shows_no_secret():
                return await opened.page.tab.screenshot(timeout_s)
        except TimeoutError:
            raise ScreenshotTimeout(f"the page gave no picture within {timeout_s:g} s; it may hang") from None
        except Exception as error:
            if await self._browser.is_lost_soon():
                raise BrowserLost("the browser died") from None
            if isinstance(error, BrowserError):
                raise
            raise PageBroken("the page could not be pictured") from None

    async def close(self) -> None:
        """Save the session, end the browser, free stream port and profile. Takes about 6 seconds at most.

        When the browser is lost this begins by itself.
        """
        await asyncio.shield(self._start_closing())

    async def abandon(self) -> None:
        """Let go of the browser at once, whatever the page is doing, and of the rest as `close` does; save nothing."""
        self.is_abandoned = True
        await asyncio.shield(asyncio.create_task(self._browser.close(), name="page-abandon"))
        await self.close()

    def _start_closing(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="page-close")
        return self._closing

    async def _close(self) -> None:
        if self._completion:
            self._completion.interrupt(BrowserLost("the browser is gone"))
        if self._watch:
            self._watch.cancel()
        if not (self._browser.lost or self.is_abandoned):
            await self._end_tasks()
            if self._opened:
                await self._opened.login.save()
        await self._browser.close()
        # Again: with the browser gone, whatever still waited for it has failed.
        await self._end_tasks()
        if self._lock:
            self._lock.release()

    async def _end_tasks(self) -> None:
        """Wait a moment for releases and monitor to end, then cancel them."""
        tasks = {*self._releases, *([self._watch] if self._watch else [])}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_TASKS_TIMEOUT_S)
            for task in late:
                task.cancel()

"""The chat page in its tab: look at it, and do the steps of a site file."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from playwright.async_api import Dialog, Error, Frame, JSHandle, Page
from playwright.async_api import TimeoutError as PlaywrightTimeout

from browser.capture import scripts
from browser.capture.capture import Capture
from browser.capture.look_channel import LookChannel
from browser.errors import LoginExpired, PageBroken, PageHung, SiteUnreachable
from browser.page.locate import locate
from browser.page.page_input import PageInput
from browser.site.schema import SECRET, Action, Actions, Marker, Site, glob_to_regex
from browser.site.selectors import Path, path_or_none
from browser.timeouts import within

LOOK_TIMEOUT_S = 2.0
LOOK_INTERVAL_S = 0.02
CHANNEL_TIMEOUT_S = 0.5
CHANNEL_RETRY_S = 30.0
CONFIRMED_FOR_S = 5.0
"""How long the hook is asked after a look by the driver: a driver that hangs must be noticed, too."""
GRACE_S = 5.0  # for Playwright's own timeout to come first: its error leaves nothing behind
FRESH_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 2.0
STOP_SHOWS_AFTER_S = 2.0
BUSY_FOR_S = 8.0
SERVER_ERRORS = 500

NO_CONNECTION = re.compile(
    r"net::ERR_(?!ABORTED|CERT_|SSL_|BLOCKED_|TOO_MANY_REDIRECTS|OUT_OF_MEMORY|INSUFFICIENT_RESOURCES)"
    r"|NS_ERROR_(?!ABORT|REDIRECT_LOOP|OUT_OF_MEMORY|GENERATE_FAILURE|MODULE_)"
)
"""In a browser's error: the site was not reached, or broke off. A certificate that is not trusted (in Firefox
a failure of its security module) is another matter, for which no wait helps, and so is a load that was called off."""

NOT_A_SELECTOR = re.compile(r": '(.*)' is not a valid selector")

LoginState = Literal["in", "out", "unknown"]
T = TypeVar("T")


@dataclass(frozen=True)
class PageSnapshot:
    """What one look at the page found.

    `answers` is how many it shows; `attached` how many images go with the prompt to come; `error` the site's own
    message, which must not be passed on.
    """

    logged_in: bool
    logged_out: bool
    ready: bool
    answers: int
    attached: int
    answering: bool
    error: str | None

    @property
    def usable(self) -> bool:
        """Whether the page is logged in and can take a prompt."""
        return self.logged_in and not self.logged_out and self.ready

    @property
    def shows_logout(self) -> bool:
        """Whether the page shows that it is logged out, and not, as in between, both."""
        return self.logged_out and not self.logged_in


class Tab:
    """One page of the browser. Playwright's errors become PageBroken, which names what was being done."""

    def __init__(
        self, page: Page, site: Site, on_crash: Callable[[], None] = lambda: None, *, capture: Capture | None = None
    ) -> None:
        self.page = page
        self.site = site
        self.crashed = False
        self._on_crash = on_crash
        self._capture = capture
        self._looker: JSHandle | None = None
        self._channel: LookChannel | None = None
        self._channel_due_at = -math.inf
        self._must_confirm = False
        """Whether the hook's answers count only after the driver's: the page may have another document by now, or the
        driver did not answer."""
        self._confirmed_at = -math.inf
        self._navigations = 0
        self.prompted = False
        """Whether a prompt was sent since the page was loaded."""
        dom = site.capture.dom
        self._look_for: dict[str, Any] = {
            # Without a login a marker that holds always takes the place of one: readiness alone decides.
            "logged_in": [{}] if site.login.none else [_marker(marker) for marker in site.login.logged_in],
            "logged_out": [_marker(marker) for marker in site.login.logged_out],
            "ready": path_or_none(site.ready_selector),
            "answer": path_or_none(dom.answer) if dom else None,
            "attached": path_or_none(site.upload.done) if site.upload else None,
            "answering": path_or_none(site.stop.answering),
            "error": path_or_none(dom.error) if dom else None,
            "hook": capture.hook_name if capture else None,
        }
        page.on("crash", self._note_crash)
        page.on("close", self._note_crash)
        page.on("framenavigated", self._note_navigation)

    def retire(self) -> None:
        """Tell nobody of this tab's end: another has taken its place."""
        self._on_crash = lambda: None

    def _note_crash(self, _: Page) -> None:
        self.crashed = True
        self._on_crash()

    def _note_navigation(self, frame: Frame) -> None:
        if frame == self.page.main_frame:
            self._must_confirm = True
            self._navigations += 1

    async def look(self, timeout_s: float = LOOK_TIMEOUT_S) -> PageSnapshot | None:
        """Look at the page; None while it is between two documents.

        Raises PageHung after timeout_s seconds, and PageBroken for a selector that this browser does not know.
        """
        began = time.monotonic()
        if found := await self._ask_hook():
            return PageSnapshot(**found)
        left_s = timeout_s - (time.monotonic() - began)
        try:
            seen = PageSnapshot(**await within(left_s, self._look_by_handle(), "page-look"))
        except TimeoutError:
            raise PageHung("the page does not answer") from None
        except Error as error:
            if unknown := NOT_A_SELECTOR.search(error.message):
                raise PageBroken(f"the browser knows no such selector: {unknown[1]!r} (site file)") from None
            return None
        await self._open_channel_if_due()
        return seen

    async def _ask_hook(self) -> dict[str, Any] | None:
        """Return what the hook of the page's document sees; None if it is not known to be that one, or cannot say."""
        confirmed_s = time.monotonic() - self._confirmed_at
        if self._channel is None or self._must_confirm or confirmed_s > CONFIRMED_FOR_S:
            return None
        return await self._channel.look(CHANNEL_TIMEOUT_S)

    async def _look_by_handle(self) -> dict[str, Any]:
        """Have the driver call this document's looker; what the document before had of one is gone with it."""
        found: dict[str, Any] | None = None
        # A look that is given up leaves it so.
        self._must_confirm, navigations = True, self._navigations
        if self._looker:
            with suppress(Error):
                found = await self._looker.evaluate("(look) => look()")
        if found is None:
            if self._channel:
                self._channel.close()
            self._channel_due_at = -math.inf
            self._looker = await self.page.evaluate_handle(scripts.LOOKER, self._look_for)
            found = await self._looker.evaluate("(look) => look()")
        self._must_confirm, self._confirmed_at = navigations != self._navigations, time.monotonic()
        return found

    async def _open_channel_if_due(self) -> None:
        """Have the hook answer looks; tried once for each document, and again after CHANNEL_RETRY_S."""
        capture = self._capture
        if self._channel and self._channel.is_open:
            return
        if capture is None or not capture.has_look_channels or time.monotonic() < self._channel_due_at:
            return
        self._channel_due_at = time.monotonic() + CHANNEL_RETRY_S
        with suppress(Error, TimeoutError):
            opening = capture.open_look_channel(self.page, self._look_for)
            self._channel = await within(CHANNEL_TIMEOUT_S, opening, "page-look-channel")

    async def wait_until(self, holds: Callable[[PageSnapshot], bool], timeout_s: float) -> bool:
        """Look until `holds` is true of what is seen; return whether it was within timeout_s seconds.

        A page too busy to be looked at has shown nothing yet: it gets up to BUSY_FOR_S seconds more.
        """
        now = asyncio.get_running_loop().time
        deadline, latest = now() + timeout_s, now() + timeout_s + BUSY_FOR_S
        while now() < deadline:
            try:
                seen = await self.look()
            except PageHung:
                deadline = min(now() + timeout_s, latest)
                continue
            if seen and holds(seen):
                return True
            await asyncio.sleep(LOOK_INTERVAL_S)
        return False

    async def wait_for_login(self, timeout_s: float) -> LoginState:
        """Wait until the page shows whether it is logged in; "unknown" if it does not within timeout_s seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    seen = await self.look(timeout_s)
                    if seen and seen.logged_out:
                        return "out"
                    if seen and seen.usable:
                        return "in"
                    await asyncio.sleep(LOOK_INTERVAL_S)
        except (TimeoutError, PageHung):
            return "unknown"

    async def load(self) -> None:
        """Open the site's page. Raises SiteUnreachable, or PageBroken if it cannot be opened for another reason."""
        self.prompted = False
        timeout_s = self.site.readiness.timeout_s
        await self.perform(self._goto(self.site.url, timeout_s), f"opening {self.site.url}", timeout_s)

    async def screenshot(self, timeout_s: float) -> bytes:
        """Return a PNG of the part of the page that is in view. Raises TimeoutError, and Playwright's Error."""
        # Playwright's other values for caret and animations would put a style sheet into the page.
        taking = self.page.screenshot(
            type="png", caret="initial", animations="allow", scale="css", timeout=timeout_s * 1000
        )
        try:
            return await within(timeout_s, taking, "page-screenshot")
        except PlaywrightTimeout:
            raise TimeoutError from None

    async def open_fresh_chat(self) -> None:
        """Open an empty conversation by the site file's steps. Raises LoginExpired, PageBroken."""
        await self.run(self.site.fresh_chat.actions)
        await self.wait_fresh()

    async def wait_fresh(self) -> None:
        """Wait until an empty conversation is open. Raises LoginExpired, PageBroken."""
        if not await self.wait_until(self.is_fresh, FRESH_TIMEOUT_S):
            raise PageBroken("no empty conversation came up (site file: fresh_chat)")

    def is_fresh(self, seen: PageSnapshot) -> bool:
        """Return whether this is an empty conversation that can take a prompt. Raises LoginExpired."""
        if seen.shows_logout:
            raise LoginExpired("the site shows its login page")
        is_empty = seen.answers == self.site.fresh_chat.answers and not seen.answering and not seen.attached
        return seen.usable and is_empty and seen.error is None

    @property
    def can_stop(self) -> bool:
        """Whether the site file says how an answer is stopped."""
        return bool(self.site.stop.answering and self.site.stop.actions)

    async def wait_at_rest(self) -> None:
        """Wait until no answer is being written and the page can take a prompt. Raises LoginExpired, PageBroken."""

        def is_at_rest(seen: PageSnapshot) -> bool:
            if seen.shows_logout:
                raise LoginExpired("the site shows its login page")
            return seen.usable and not seen.answering

        if not await self.wait_until(is_at_rest, FRESH_TIMEOUT_S):
            raise PageBroken("the page takes no other prompt after its answer (site file: stop, readiness)")

    async def stop_answer(self) -> None:
        """Stop the answer that is being written, if any. Raises PageBroken if it goes on."""
        stop = self.site.stop
        if not self.can_stop:
            return
        # A prompt that was just sent takes a moment to show that it is being answered.
        if await self.wait_until(lambda seen: seen.answering, STOP_SHOWS_AFTER_S):
            await self.run(stop.actions)
            if not await self.wait_until(lambda seen: not seen.answering, STOP_TIMEOUT_S):
                raise PageBroken("the page goes on answering after its stop (site file: stop)")

    async def run(self, actions: Actions, *, model: str = "", secrets: Mapping[str, str] | None = None) -> None:
        """Do a site file's steps, with `model` for {model} in them, and each {secret:NAME} from `secrets`.

        Raises PageBroken, which names the step, with its placeholders as they stand in the file.
        """
        for action in actions:
            given = action.model_dump(exclude_unset=True)
            name = ", ".join(f"{key} = {value!r}" for key, value in given.items())
            await self.perform(self._do(action, model, secrets or {}), f"the step {name}", action.timeout_s)

    async def _do(self, action: Action, model: str, secrets: Mapping[str, str]) -> None:
        target = getattr(action, action.verb).replace("{model}", model)
        value = SECRET.sub(lambda found: secrets[found[1]], (action.value or "").replace("{model}", model))
        timeout_ms = action.timeout_s * 1000
        page_input = PageInput(self.page, timeout_ms)
        with self._answer_dialogs(action.dialog):
            match action.verb:
                case "goto":
                    await self._goto(self.site.address(target), action.timeout_s)
                case "click":
                    await page_input.click(target)
                case "dismiss":
                    await page_input.dismiss(target)
                case "press":
                    await page_input.press(action.on or self.site.input.selector, target)
                case "select":
                    await page_input.select(target, value)
                case "fill":
                    await locate(self.page, target).fill(value, timeout=timeout_ms)
                case "wait_for":
                    await locate(self.page, target).wait_for(state="visible", timeout=timeout_ms)
                case "wait_gone":
                    await locate(self.page, target).wait_for(state="hidden", timeout=timeout_ms)

    @contextmanager
    def _answer_dialogs(self, answer: Literal["accept", "dismiss"] | None) -> Iterator[None]:
        """Answer the browser's own dialogs meanwhile; where nobody listens, Playwright dismisses them."""
        if answer is None:
            yield
            return

        async def give(dialog: Dialog) -> None:
            with suppress(Error):  # the page may be gone by then
                await (dialog.accept() if answer == "accept" else dialog.dismiss())

        self.page.on("dialog", give)
        try:
            yield
        finally:
            self.page.remove_listener("dialog", give)

    async def _goto(self, url: str, timeout_s: float) -> None:
        try:
            response = await self.page.goto(url, wait_until="domcontentloaded", timeout=timeout_s * 1000)
        except PlaywrightTimeout:
            raise SiteUnreachable(f"opening {url} took too long") from None
        if response and response.status >= SERVER_ERRORS:
            raise SiteUnreachable(f"opening {url} failed: the site answers with status {response.status}")

    async def perform(self, work: Coroutine[Any, Any, T], name: str, timeout_s: float) -> T:
        """Return the work's result. Raises PageBroken, which says `name`, if it fails or takes too long.

        It is a SiteUnreachable where the browser says that it got no answer from the site.
        """
        try:
            return await within(timeout_s + GRACE_S, work, "page-step")
        except (PlaywrightTimeout, TimeoutError):
            raise PageBroken(f"{name} took too long") from None
        except Error as error:
            kind = SiteUnreachable if NO_CONNECTION.search(error.message) else PageBroken
            raise kind(f"{name} failed") from None


def _marker(marker: Marker) -> dict[str, Path | str | None]:
    return {"selector": path_or_none(marker.selector), "url": glob_to_regex(marker.url) if marker.url else None}

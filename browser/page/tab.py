"""The chat page in its tab: looking at it, and doing what the site file says."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from playwright.async_api import Dialog, Error, Page
from playwright.async_api import TimeoutError as TooSlow

from browser.capture import scripts
from browser.errors import LoginExpired, PageBroken
from browser.page.page_input import Hands
from browser.site.schema import Action, Actions, Marker, Site, glob_to_regex
from browser.timeouts import within

PROBE_TIMEOUT_S = 2.0
GRACE_S = 5.0  # for Playwright to give up by itself first
LOOK_INTERVAL_S = 0.02
FRESH_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 2.0
BUSY_FOR_S = 8.0
STOP_SHOWS_AFTER_S = 2.0

Login = Literal["in", "out", "unknown"]
T = TypeVar("T")


@dataclass(frozen=True)
class Look:
    """What one look at the page found: how many `answers`, and images `attached` to a prompt to come, it shows."""

    logged_in: bool
    logged_out: bool
    ready: bool
    answers: int
    attached: int
    answering: bool
    error: str | None

    @property
    def usable(self) -> bool:
        return self.logged_in and not self.logged_out and self.ready


class Hung(Exception):
    """The page did not answer in time: it, or its browser, is stuck."""


class Tab:
    """One page of the browser. Errors of Playwright become PageBroken, named by what was being done."""

    def __init__(self, page: Page, site: Site, on_crash: Callable[[], None]) -> None:
        self.page = page
        self.site = site
        self.crashed = False
        self._on_crash = on_crash
        self._wish = _probe_wish(site)
        page.on("crash", self._note_crash)
        page.on("close", self._note_crash)

    def _note_crash(self, _: Page) -> None:
        self.crashed = True
        self._on_crash()

    async def look(self, timeout_s: float = PROBE_TIMEOUT_S) -> Look | None:
        """Look at the page; None while it is between two documents. Raises Hung after timeout_s seconds."""
        try:
            return Look(**await within(timeout_s, self.page.evaluate(scripts.PROBE, self._wish), "page-look"))
        except TimeoutError:
            raise Hung from None
        except Error:
            return None

    async def load(self) -> None:
        """Open the site's page. Raises PageBroken if it cannot be reached."""
        timeout_s = self.site.readiness.timeout_s
        await self.act(self._goto(self.site.url, timeout_s), f"opening {self.site.url}", timeout_s)

    async def picture(self, timeout_s: float) -> bytes:
        """Return a PNG of the part of the page that is in view. Raises TimeoutError, and Playwright's Error."""
        # Playwright's other values for caret and animations would put a style sheet into the page.
        taking = self.page.screenshot(
            type="png", caret="initial", animations="allow", scale="css", timeout=timeout_s * 1000
        )
        try:
            return await within(timeout_s, taking, "page-screenshot")
        except TooSlow:
            raise TimeoutError from None

    async def settle(self, timeout_s: float) -> Login:
        """Wait up to timeout_s seconds until the page shows whether it is logged in."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    look = await self.look(timeout_s)
                    if look and look.logged_out:
                        return "out"
                    if look and look.usable:
                        return "in"
                    await asyncio.sleep(LOOK_INTERVAL_S)
        except (TimeoutError, Hung):
            return "unknown"

    async def open_fresh_chat(self) -> None:
        """Open an empty conversation and see that it is one. Raises LoginExpired, PageBroken."""
        await self.run(self.site.fresh_chat.actions)
        await self.wait_fresh()

    async def wait_fresh(self) -> None:
        """See that an empty conversation is open. Raises LoginExpired, PageBroken."""
        if not await self.see(self._is_fresh, FRESH_TIMEOUT_S):
            raise PageBroken("no empty conversation came up (site file: fresh_chat)")

    def _is_fresh(self, look: Look) -> bool:
        if look.logged_out and not look.logged_in:
            raise LoginExpired("the site shows its login page")
        is_empty = look.answers == self.site.fresh_chat.answers and not look.answering and not look.attached
        return look.usable and is_empty and look.error is None

    async def stop_answer(self) -> None:
        """Stop the answer that is being written, if any. Raises PageBroken if it goes on."""
        stop = self.site.stop
        if not stop.answering or not stop.actions:
            return
        if await self.see(lambda look: look.answering, STOP_SHOWS_AFTER_S):
            await self.run(stop.actions)
            if not await self.see(lambda look: not look.answering, STOP_TIMEOUT_S):
                raise PageBroken("the page goes on answering after its stop (site file: stop)")

    async def see(self, wanted: Callable[[Look], bool], timeout_s: float) -> bool:
        """Look until what is seen is as wanted. Returns whether it was, after timeout_s seconds at most.

        A page too busy to be looked at has shown nothing yet: it gets up to BUSY_FOR_S seconds more.
        """
        now = asyncio.get_running_loop().time
        deadline, latest = now() + timeout_s, now() + timeout_s + BUSY_FOR_S
        while now() < deadline:
            try:
                look = await self.look()
            except Hung:
                deadline = min(now() + timeout_s, latest)
                continue
            if look and wanted(look):
                return True
            await asyncio.sleep(LOOK_INTERVAL_S)
        return False

    async def run(self, actions: Actions, *, model: str = "") -> None:
        """Do a site file's steps. Raises PageBroken, which names the step."""
        for action in actions:
            await self.act(self._step(action, model), f"the step {_name(action)}", action.timeout_s)

    async def _step(self, action: Action, model: str) -> None:
        target = getattr(action, action.verb).replace("{model}", model)
        value = (action.value or "").replace("{model}", model)
        hands = Hands(self.page, action.timeout_s * 1000)
        with self._answering(action.dialog):
            await self._do(action, hands, target, value)

    @contextmanager
    def _answering(self, answer: str | None) -> Iterator[None]:
        """Answer the browser's boxes meanwhile; without an answer Playwright dismisses them."""
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

    async def _do(self, action: Action, hands: Hands, target: str, value: str) -> None:
        timeout_ms = action.timeout_s * 1000
        match action.verb:
            case "goto":
                await self._goto(self.site.address(target), action.timeout_s)
            case "click":
                await hands.click(target)
            case "dismiss":
                await hands.dismiss(target)
            case "press":
                await hands.press(action.on or self.site.input.selector, target)
            case "select":
                await hands.select(target, value)
            case "fill":
                await self.page.locator(target).first.fill(value, timeout=timeout_ms)
            case "wait_for":
                await self.page.locator(target).first.wait_for(state="visible", timeout=timeout_ms)
            case "wait_gone":
                await self.page.locator(target).first.wait_for(state="hidden", timeout=timeout_ms)

    async def _goto(self, url: str, timeout_s: float) -> None:
        await self.page.goto(url, wait_until="domcontentloaded", timeout=timeout_s * 1000)

    async def act(self, doing: Coroutine[Any, Any, T], name: str, timeout_s: float) -> T:
        """Do one thing to the page. Raises PageBroken, which names it, if it fails or takes too long."""
        try:
            return await within(timeout_s + GRACE_S, doing, "page-step")
        except (TooSlow, TimeoutError):
            raise PageBroken(f"{name} took too long") from None
        except Error:
            raise PageBroken(f"{name} failed") from None


def _name(action: Action) -> str:
    return ", ".join(f"{key} = {value!r}" for key, value in action.model_dump(exclude_unset=True).items())


def _probe_wish(site: Site) -> dict[str, Any]:
    dom = site.capture.dom
    return {
        "logged_in": [_marker(marker) for marker in site.login.logged_in],
        "logged_out": [_marker(marker) for marker in site.login.logged_out],
        "ready": site.readiness.selector,
        "answer": dom.answer if dom else None,
        "attached": site.upload.done if site.upload else None,
        "answering": site.stop.answering,
        "error": dom.error if dom else None,
    }


def _marker(marker: Marker) -> dict[str, str | None]:
    return {"selector": marker.selector, "url": glob_to_regex(marker.url) if marker.url else None}

"""Getting an answer out of the page: as the page receives it, sent to us by the hook, or by looking at it."""

import asyncio
import json
import secrets
from collections.abc import Callable
from typing import Any, Literal

import structlog
from playwright.async_api import Error, Page

from browser.capture import scripts
from browser.capture.compare import agree
from browser.capture.console_sink import ConsoleSink
from browser.capture.reading import DomReader, Done, Finding, LoggedOut, Lost, NetworkReader, Transcript, as_text
from browser.capture.stream_port import Feed, Frame, Kind, StreamPort
from browser.errors import BrowserError, CaptureGap
from browser.settings import EngineName
from browser.site.schema import Dom, Network, Site, glob_to_regex
from browser.timeouts import within

log = structlog.get_logger("browser")

ARM_TIMEOUT_S = 2.0
LOOK_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 5.0
CONNECT_INTERVAL_S = 0.02
POLL_INTERVAL_S = 0.05
UNSEEN_AFTER_S = 1.0
VERIFY_SETTLE_S = 2.0

# Camoufox runs scripts where the page does not see them, unless they begin with this; elsewhere it is a label.
_MAIN_WORLD = "mw:"

Way = Literal["network", "dom"]
Sink = Literal["socket", "console"]
SINKS: tuple[Sink, ...] = ("socket", "console")


class Capture:
    """Captures the answers of one page at a time; one answer at a time."""

    def __init__(
        self, site: Site, port: int, engine: EngineName, on_frame: Callable[[Frame], object] = lambda _: None
    ) -> None:
        token = secrets.token_urlsafe(32)
        self._site = site
        self._on_frame = on_frame
        self.hook_name = f"_{secrets.token_hex(8)}"
        self._world = _MAIN_WORLD if engine == "camoufox" else ""
        self._config = {
            "name": self.hook_name,
            "origin": site.origin,
            "port": port,
            "token": token,
            "rule": _rule(site.capture.network),
            "lost": [{"url": glob_to_regex(lost.url), "status": lost.status} for lost in site.login.lost],
        }
        self.stream_port = StreamPort(port=port, origin=site.origin, token=token)
        self._console = ConsoleSink(self.hook_name, self.stream_port)
        self._sink: Sink | None = None
        self.way: Way | None = None

    def init_script(self) -> str:
        """Return the script that every document of the page must run first."""
        return self._world + scripts.hook(self._config)

    def _call(self, method: str, *arguments: object) -> str:
        """Return the script that calls the hook. Arguments are in its text: Camoufox passes none there."""
        return f"{self._world}window.{self.hook_name}?.{method}({', '.join(map(json.dumps, arguments))})"

    async def wait_connected(self, page: Page) -> bool:
        """Wait until the page's websocket carries its traffic, as far as the site file says how to tell.

        Meanwhile the page opens its socket to us, so that no answer has to wait for it. Returns whether the page's
        own websocket does, after 5 s at most.
        """
        try:
            await within(CONNECT_TIMEOUT_S, self._until_connected(page), "page-connect")
        except (Error, TimeoutError):
            return False
        return True

    async def _until_connected(self, page: Page) -> None:
        while await page.evaluate(self._call("prepare", self._sink)) is False:  # noqa: ASYNC110 - the page has no event
            await asyncio.sleep(CONNECT_INTERVAL_S)

    async def self_test(self, page: Page) -> Way:
        """Find out whether the page can deliver frames, and choose the way of capture by it."""
        for sink in SINKS:
            if await self._arm(page, None, sink):
                self._sink = sink
                break
        await self.disarm(page)
        self.way = "network" if self._sink and self._site.capture.network else "dom"
        if self._sink != "socket":
            log.warning("capture_without_socket", way=self.way, by=self._sink or "looks at the page")
        return self.way

    async def begin(self, page: Page) -> "Answer":
        """Arm the page: what it receives from here on belongs to the next prompt.

        Raises CaptureGap if there is no way to see an answer.
        """
        network, dom = self._site.capture.network, self._site.capture.dom
        by_network = self.way == "network" and network is not None
        wish = dom_wish(dom, self._site) if dom else None
        feed = await self._arm(page, None if by_network else wish, self._sink) if self._sink else None
        if feed is None and dom is None:
            raise CaptureGap("the page keeps its traffic from us, and the site file has no capture.dom")
        answer = Answer(page, feed or self._new_feed(), wish, self._on_frame)
        if feed is not None and by_network and network:
            answer.read_network(network, verify=self._site.capture.verify)
        elif feed is not None:
            answer.read_dom()
        else:
            answer.look_at_dom()
        return answer

    async def end(self, answer: "Answer") -> None:
        """Stop capturing; the page is as if it had never been watched."""
        self.release(answer)
        await self.disarm(answer.page)

    def release(self, answer: "Answer") -> None:
        """Stop listening, without a word to the page."""
        answer.close()
        self.stream_port.close_feed(answer.feed)

    async def disarm(self, page: Page) -> None:
        try:
            await within(ARM_TIMEOUT_S, page.evaluate(self._call("disarm")), "answer-disarm")
        except (Error, TimeoutError):
            log.debug("disarm_failed")  # the document is gone, and what it would have sent is refused

    async def _arm(self, page: Page, wish: dict[str, Any] | None, sink: Sink) -> Feed | None:
        """Return the feed of an armed page, or None if the page has no hook or nothing comes of it this way."""
        if sink == "console":
            self._console.listen(page)
        nonce = secrets.token_hex(8)
        feed = self.stream_port.open_feed(nonce)
        try:
            if await within(ARM_TIMEOUT_S, page.evaluate(self._call("arm", nonce, wish, sink)), "answer-arm"):
                async with asyncio.timeout(ARM_TIMEOUT_S):
                    return feed if (await feed.next()).kind is Kind.ARMED else None
        except (Error, TimeoutError):
            log.debug("arm_failed")
        return None

    def _new_feed(self) -> Feed:
        return self.stream_port.open_feed(secrets.token_hex(8))


class Answer:
    """One answer as it comes. `next` gives what was found, in order; `interrupt` ends it with an error."""

    def __init__(
        self, page: Page, feed: Feed, wish: dict[str, Any] | None, on_frame: Callable[[Frame], object]
    ) -> None:
        self.page = page
        self._on_frame = on_frame
        self.feed = feed
        self._wish = wish
        self._transcript = Transcript()
        self._network: NetworkReader | None = None
        self._dom: DomReader | None = None
        self._poll: asyncio.Task[None] | None = None
        self._unseen = 0
        self._verify = False

    def read_network(self, network: Network, *, verify: bool = False) -> None:
        """From here on read the page's traffic; with `verify` the page must in the end show the same text."""
        self._network = NetworkReader(network, self._transcript)
        self._verify = verify

    def read_dom(self) -> None:
        wish = self._wish or {}
        self._dom = DomReader(self._transcript, stream=wish["stream"], html=wish["read"] == "markdown")

    def look_at_dom(self) -> None:
        """From here on look at the page again and again, and take nothing else."""
        self._network = None
        self.read_dom()
        self._poll = asyncio.create_task(self._keep_looking(), name="answer-poll")

    def interrupt(self, error: BrowserError) -> None:
        self.feed.put(error)

    async def next(self) -> list[Finding]:
        """Wait for the next frame and return what is in it. Raises CaptureGap, and what interrupted it."""
        if self._network and not self._network.has_begun and self._wish:
            await self._see_that_traffic_is_seen()
        frame = await self.feed.next()
        self._on_frame(frame)
        if frame.kind is Kind.LOGIN_LOST:
            return [LoggedOut()]
        if frame.kind is Kind.GAP:
            return [] if self._poll else self._bridge_gap()
        reader = self._network or self._dom
        findings = reader.read(frame) if reader else []
        if any(isinstance(finding, Lost) for finding in findings):
            return self._bridge_gap()
        if self._network and self._verify and Done() in findings:
            return [*findings[: findings.index(Done())], *await self._verified()]
        return findings

    async def _verified(self) -> list[Finding]:
        """See that the page shows what was read; what it shows beyond that is added. Raises CaptureGap."""
        wish, read = self._wish or {}, self._transcript.passed_on
        html = wish["read"] == "markdown"
        steadiness = _Steadiness({**wish, "settle_ms": VERIFY_SETTLE_S * 1000})
        text = ""
        while not steadiness.finished:
            shown = await self._shown()
            text = as_text(shown["text"] or "", html=html)
            if agree(read, text, wish["read"]):
                return [Done()]
            steadiness.frames(shown, asyncio.get_running_loop().time())
            await asyncio.sleep(POLL_INTERVAL_S)
        if wish["read"] == "text" and text.startswith(read):
            return [*self._transcript.whole(text), Done()]
        raise CaptureGap("the page shows another answer than its traffic brought (site file: capture.verify)")

    async def _see_that_traffic_is_seen(self) -> None:
        """Turn to the DOM if an answer shows on the page but not in its traffic (a worker may have fetched it)."""
        while self._poll is None and not await self.feed.wait(UNSEEN_AFTER_S):
            self._unseen = self._unseen + 1 if await self._shows_answer() else 0
            if self._unseen > 1:
                log.warning("capture_fell_back", reason="the page's traffic is not seen")
                self.look_at_dom()

    async def _shows_answer(self) -> bool:
        shown = await self._shown()
        return bool(shown["text"] or (shown["text"] is not None and shown["done"]))

    async def _shown(self) -> dict[str, Any]:
        try:
            looking = self.page.evaluate(scripts.ANSWER, self._wish)
            shown: dict[str, Any] = await within(LOOK_TIMEOUT_S, looking, "answer-look")
        except (Error, TimeoutError):  # between two documents, or the page is stuck
            return {"text": None, "done": False, "busy": False, "error": None}
        return shown

    def _bridge_gap(self) -> list[Finding]:
        if self._wish is None or self._poll:
            raise CaptureGap("part of the answer was lost on its way from the page")
        log.warning("capture_fell_back", reason="gap")
        self.look_at_dom()
        return []

    async def _keep_looking(self) -> None:
        """Put into the feed what the page shows, as if the hook had sent it."""
        steadiness = _Steadiness(self._wish or {})
        try:
            while not steadiness.finished:
                for frame in steadiness.frames(await self._shown(), asyncio.get_running_loop().time()):
                    self.feed.put(frame)
                await asyncio.sleep(POLL_INTERVAL_S)
        except Exception as error:  # noqa: BLE001 - whoever waits for the next frame must hear of it
            self.feed.put(error)

    def close(self) -> None:
        if self._poll:
            self._poll.cancel()


class _Steadiness:
    """Tells from looks at the page what is new, and when the answer is complete."""

    def __init__(self, wish: dict[str, Any]) -> None:
        self.finished = False
        self._needs_done = bool(wish.get("done"))
        self._settle_s: float = wish.get("settle_ms", 0) / 1000
        self._text: str | None = None
        self._steady_since: float | None = None
        self._saw_busy = False

    def frames(self, shown: dict[str, Any], now: float) -> list[Frame]:
        frames = []
        if shown["error"] is not None:
            frames.append(Frame(Kind.DOM_ERROR, 0, shown["error"].encode()))
        self._saw_busy = self._saw_busy or shown["busy"]
        is_new = shown["text"] != self._text
        if is_new and shown["text"] is not None:
            self._text = shown["text"]
            frames.append(Frame(Kind.DOM_SET, 0, shown["text"].encode("utf-8", "replace")))
        if self._is_complete(shown, now, is_new=is_new):
            self.finished = True
            frames.append(Frame(Kind.DOM_DONE))
        return frames

    def _is_complete(self, shown: dict[str, Any], now: float, *, is_new: bool) -> bool:
        may_end = bool(shown["done"]) or not self._needs_done
        at_rest = shown["text"] is not None and not shown["busy"] and may_end
        if not at_rest:
            self._steady_since = None
            return False
        if self._steady_since is None or is_new:
            self._steady_since = now
        certain = self._needs_done or self._saw_busy
        settle_s = self._settle_s if certain else max(self._settle_s, UNSEEN_AFTER_S)
        return bool(now - self._steady_since >= settle_s)


def _rule(network: Network | None) -> dict[str, Any] | None:
    if network is None:
        return None
    return {
        "kind": network.kind,
        "url": glob_to_regex(network.url),
        "method": network.method,
        "events": list(network.event_names),
        "ready": [glob_to_regex(pattern) for pattern in network.ready_frames],
    }


def dom_wish(dom: Dom, site: Site) -> dict[str, Any]:
    """Return what dom.js is to look for."""
    wish = dom.model_dump(exclude={"settle_s"})
    return wish | {"baseline": site.fresh_chat.answers, "settle_ms": dom.settle_s * 1000}

"""The hook in the page and the frames that it sends: armed before a prompt is sent, disarmed after its answer."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from typing import Any, Literal

import structlog
from playwright.async_api import Error, Page

from browser.capture import scripts
from browser.capture.answer import Answer
from browser.capture.console_sink import ConsoleSink
from browser.capture.dom_poll import baseline_now, dom_query
from browser.capture.frames import Feed, FrameKind
from browser.capture.framing import WIRE_FORMATS
from browser.capture.look_channel import LookChannel
from browser.capture.stream_receiver import StreamReceiver
from browser.capture.trace import Trace
from browser.errors import CaptureGap
from browser.settings import EngineName
from browser.site.schema import Site, glob_to_regex
from browser.timeouts import within

log = structlog.get_logger("browser")

ARM_TIMEOUT_S = 10.0  # a page may be slow, and what was not tried long enough would count as forbidden
DISARM_TIMEOUT_S = 2.0
SINK_LOOK_INTERVAL_S = 0.1
CONNECT_TIMEOUT_S = 5.0
CONNECT_INTERVAL_S = 0.02
SOCKET_LOOK_TIMEOUT_S = 2.0

# Camoufox runs scripts where the page does not see them, unless they begin with this; elsewhere it is a label.
_MAIN_WORLD = "mw:"

CaptureMode = Literal["network", "dom"]
Sink = Literal["socket", "console"]
SINKS: tuple[Sink, ...] = ("socket", "console")
"""How frames can come, the best first: by the hook's WebSocket to the stream port, or by the browser's console where
the page's policy, or the browser's protection of loopback from public pages, forbids that."""


class Capture:
    """Captures the answers of one page at a time; one answer at a time.

    `mode` says whether answers are read from the page's traffic or from what it shows; it is None until `self_test`.
    """

    def __init__(self, site: Site, port: int, engine: EngineName, trace: Trace | None = None) -> None:
        token = self._token = secrets.token_urlsafe(32)
        self._site = site
        self._trace = trace
        # A name that no page knows beforehand, and another one at each start.
        self.hook_name = f"_{secrets.token_hex(8)}"
        self._world = _MAIN_WORLD if engine == "camoufox" else ""
        self._config: dict[str, Any] = {
            "name": self.hook_name,
            "origin": site.origin,
            "port": port,
            "token": token,
            "rule": None,
            "lost": [{"url": glob_to_regex(lost.url), "status": lost.status} for lost in site.login.lost],
        }
        if network := site.capture.network:
            self._config["rule"] = {
                "kind": WIRE_FORMATS[network.kind].source,
                "url": glob_to_regex(network.url),
                "method": network.method,
                "events": list(network.event_names),
                "ready": [glob_to_regex(pattern) for pattern in network.ready_frames],
            }
        self.receiver = StreamReceiver(origin=site.origin, token=token)
        """Takes what the hook delivers, as long as a `StreamPort` has it."""
        self._console = ConsoleSink(self.hook_name, self.receiver)
        self._sink: Sink | None = None
        self.mode: CaptureMode | None = None

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

        async def until_connected() -> None:
            while await page.evaluate(self._call("prepare", self._sink)) is False:  # noqa: ASYNC110 - the page has no event
                await asyncio.sleep(CONNECT_INTERVAL_S)

        try:
            await within(CONNECT_TIMEOUT_S, until_connected(), "page-connect")
        except (Error, TimeoutError):
            return False
        return True

    @property
    def has_look_channels(self) -> bool:
        """Whether hooks can answer looks: they have a socket to us, as far as is known.

        Camoufox looks where the page's scripts cannot change what is found, and hooks are not there.
        """
        return self._sink == "socket" and not self._world

    async def open_look_channel(self, page: Page, look_for: Mapping[str, Any]) -> LookChannel:
        """Have the hook of the page's document answer looks for `look_for`, as soon as its socket is open.

        Raises Playwright's Error.
        """
        channel = self.receiver.open_channel()
        await page.evaluate(self._call("answerLooks", self._token, channel.nonce, dict(look_for)))
        return channel

    async def socket_is_open(self, page: Page) -> bool:
        """Return whether the page has a WebSocket open by which answers come.

        False where answers do not come so, or the page does not say it in time.
        """
        network = self._site.capture.network
        if self.mode != "network" or network is None or WIRE_FORMATS[network.kind].source != "websocket":
            return False
        try:
            return await within(SOCKET_LOOK_TIMEOUT_S, page.evaluate(self._call("listening")), "page-socket") is True
        except (Error, TimeoutError):
            return False

    async def self_test(self, page: Page) -> CaptureMode:
        """Find out whether the hook can deliver frames, and choose the mode by it."""
        for sink in SINKS:
            if await self._arm(page, None, sink):
                self._sink = sink
                break
        await self.disarm(page)
        self.mode = "network" if self._sink and self._site.capture.network else "dom"
        if self._sink != "socket":
            log.warning("capture_without_socket", way=self.mode, by=self._sink or "looks at the page")
        return self.mode

    async def begin(self, page: Page, *, follows: bool = False) -> Answer:
        """Arm the hook: what the page receives from here on belongs to the next prompt.

        With `follows` the conversation has answers already, and those that show now are not the next one. Raises
        CaptureGap if there is no way to see an answer, PageBroken, and Playwright's Error.
        """
        dom = self._site.capture.dom
        network = self._site.capture.network if self.mode == "network" else None
        query = dom_query(dom, self._site) if dom else None
        if dom and query and follows:
            query |= await baseline_now(page, dom)
        feed = await self._arm(page, None if network else query, self._sink) if self._sink else None
        if feed is None and query is None:
            raise CaptureGap("the page keeps its traffic from us, and the site file has no capture.dom")
        if feed is None:
            answer = Answer(page, self.receiver.open_feed(secrets.token_hex(8)), query, self._trace)
            answer.poll_dom()
            return answer
        answer = Answer(page, feed, query, self._trace)
        if network:
            answer.read_network(network, verify=self._site.capture.verify)
        else:
            answer.read_dom()
        return answer

    async def end(self, answer: Answer) -> None:
        """Stop capturing; the page is as if it had never been watched."""
        self.release(answer)
        await self.disarm(answer.page)

    def release(self, answer: Answer) -> None:
        """Stop listening, without a word to the page."""
        answer.close()
        self.receiver.close_feed(answer.feed)

    async def disarm(self, page: Page) -> None:
        """Have the hook stop sending, for 2 s at most."""
        try:
            await within(DISARM_TIMEOUT_S, page.evaluate(self._call("disarm")), "answer-disarm")
        except (Error, TimeoutError):
            log.debug("disarm_failed")  # the document is gone, and what it would have sent is refused

    async def _arm(self, page: Page, query: dict[str, Any] | None, sink: Sink) -> Feed | None:
        """Arm the hook, which tells what the page shows if there is a `query`.

        Returns the feed of its frames, or None if the page has no hook or nothing comes by this sink.
        """
        if sink == "console":
            self._console.listen(page)
        nonce = secrets.token_hex(8)
        feed = self.receiver.open_feed(nonce)
        try:
            if not await within(ARM_TIMEOUT_S, page.evaluate(self._call("arm", nonce, query, sink)), "answer-arm"):
                return None
            async with asyncio.timeout(ARM_TIMEOUT_S):
                while not await feed.wait(SINK_LOOK_INTERVAL_S):
                    # What the page's policy forbids has failed already, long before the timeout.
                    if await within(ARM_TIMEOUT_S, page.evaluate(self._call("failed", sink)), "answer-sink"):
                        return None
                return feed if (await feed.next()).kind is FrameKind.ARMED else None
        except (Error, TimeoutError):
            log.debug("arm_failed")
        return None

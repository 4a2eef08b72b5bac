"""One answer while it comes: frames in, findings out."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from playwright.async_api import Page

from browser.capture.compare import agree, as_text
from browser.capture.dom_poll import POLL_INTERVAL_S, UNCERTAIN_SETTLE_S, AnswerChanges, look, poll
from browser.capture.dom_reader import DomReader
from browser.capture.findings import Done, Finding, LoggedOut, Lost, Transcript
from browser.capture.frames import Feed, FrameKind
from browser.capture.network_reader import NetworkReader
from browser.capture.trace import Trace
from browser.errors import BrowserError, CaptureGap
from browser.site.schema import Network

log = structlog.get_logger("browser")

UNSEEN_AFTER_S = UNCERTAIN_SETTLE_S
VERIFY_SETTLE_S = 2.0


class Answer:
    """One answer as it comes. `next` returns what was found, in order; `interrupt` ends it with an error.

    It is read from the page's traffic or from what the page shows. Where the traffic has a hole, contradicts itself
    or is not seen at all, the rest is read from the page, if `query` says where (see `dom_query`).
    """

    def __init__(self, page: Page, feed: Feed, query: dict[str, Any] | None, trace: Trace | None = None) -> None:
        self.page = page
        self.feed = feed
        self._query = query
        self._trace = trace
        self._transcript = Transcript()
        self._reasoning = Transcript()
        self._network: NetworkReader | None = None
        self._dom: DomReader | None = None
        self._poll: asyncio.Task[None] | None = None
        self._verify = False
        self._left_traffic = False
        self._looks_with_answer = 0

    def read_network(self, network: Network, *, verify: bool = False) -> None:
        """Read the page's traffic; with `verify` the page must in the end show the same text."""
        self._network = NetworkReader(network, self._transcript, self._trace, reasoning=self._reasoning)
        self._verify = verify

    def read_dom(self) -> None:
        """Read what the hook tells of what the page shows."""
        query = self._query or {}
        self._network = None
        html = query["read"] == "markdown"
        self._dom = DomReader(
            self._transcript,
            stream=query["stream"],
            hold_from=query["hold_from"],
            html=html,
            reasoning=self._reasoning,
        )

    def poll_dom(self) -> None:
        """Read what the page shows by looking at it again and again; whatever the hook sends does not count."""
        self.read_dom()
        self._poll = asyncio.create_task(poll(self.page, self._query or {}, self.feed.put), name="answer-poll")

    def interrupt(self, error: BrowserError) -> None:
        """Have `next` raise this error once it has returned what came before."""
        self.feed.put(error)

    async def next(self) -> list[Finding]:
        """Wait for the next frame and return what is in it. Raises CaptureGap, and what interrupted it."""
        if self._network and not self._network.has_begun and self._query:
            await self._wait_for_traffic(self._query)
        frame = await self.feed.next()
        if self._trace:
            self._trace.frame(frame)
            if self._network is None and frame.kind in (FrameKind.CHUNK, FrameKind.EVENT):
                self._trace.unread(frame, "read_from_page")
        if frame.kind is FrameKind.LOGIN_LOST:
            return [LoggedOut()]
        if frame.kind is FrameKind.GAP:
            # A hole in what the hook sends: of no account once the page is looked at from here.
            return [] if self._poll else self._fall_back()
        reader = self._network or self._dom
        findings = reader.read(frame) if reader else []
        if Lost() in findings:
            lost = findings.index(Lost())
            return [*findings[:lost], *self._fall_back(findings[lost])]
        if self._network and self._verify and Done() in findings:
            return [*findings[: findings.index(Done())], *await self._verified()]
        return findings

    async def _wait_for_traffic(self, query: dict[str, Any]) -> None:
        """Turn to the page if an answer shows there but not in the traffic: a worker may have fetched it.

        It must show at two looks in a row, each after a second without a frame.
        """
        while self._poll is None and not await self.feed.wait(UNSEEN_AFTER_S):
            shown = await look(self.page, query)
            is_shown = bool(shown["text"]) or (shown["text"] is not None and shown["done"])
            self._looks_with_answer = self._looks_with_answer + 1 if is_shown else 0
            if self._looks_with_answer > 1:
                log.warning("capture_fell_back", reason="the page's traffic is not seen")
                self.poll_dom()

    def _fall_back(self, finding: Finding | None = None) -> list[Finding]:
        """Read the rest of the answer from the page, for what was found, or for a hole in the frames if that is None.

        Raises CaptureGap, which says what happened, if there is no way to, or none is left.
        """
        if self._query is None or self._poll:
            raise CaptureGap(self._what_is_lost(finding))
        log.warning("capture_fell_back", reason="contradiction" if finding else "gap")
        self._left_traffic = self._left_traffic or self._network is not None
        self.poll_dom()
        return []

    def _what_is_lost(self, finding: Finding | None) -> str:
        """Say what keeps the answer from being read on."""
        if finding is None:
            return "part of the answer was lost on its way from the page"
        if isinstance(finding, Lost) and not finding.fits_document:
            return "a change in the site's traffic does not fit the answer so far (site file: capture.network.changes)"
        if self._network:
            keys = "capture.network.text, whole, message"
            return f"the site's traffic rewrote text of the answer that was passed on already (site file: {keys})"
        if self._left_traffic:
            return "the page shows another text than its traffic brought before (site file: capture.dom.answer, read)"
        keys = "capture.dom.stream = false, or loading, hold_from"
        return f"the page rewrote text of the answer that was passed on already (site file: {keys})"

    async def _verified(self) -> list[Finding]:
        """See that the page shows what was read; what it shows beyond that is added. Raises CaptureGap."""
        query, passed_on = self._query or {}, self._transcript.passed_on
        html = query["read"] == "markdown"
        changes = AnswerChanges({**query, "settle_ms": VERIFY_SETTLE_S * 1000})
        text = ""
        while not changes.complete:
            shown = await look(self.page, query)
            text = as_text(shown["text"] or "", html=html)
            if agree(passed_on, text, query["read"]):
                return [Done()]
            changes.frames(shown, asyncio.get_running_loop().time())
            await asyncio.sleep(POLL_INTERVAL_S)
        if query["read"] == "text" and text.startswith(passed_on):
            return [*self._transcript.whole(text), Done()]
        raise CaptureGap("the page shows another answer than its traffic brought (site file: capture.verify)")

    def close(self) -> None:
        """Stop looking at the page."""
        if self._poll:
            self._poll.cancel()

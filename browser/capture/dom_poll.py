"""Looking at a page's newest answer again and again, where the hook cannot tell what the page shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypedDict

from playwright.async_api import Error, Page

from browser.capture import scripts
from browser.capture.findings import whole_characters
from browser.capture.frames import Frame, FrameKind
from browser.errors import PageBroken
from browser.site.schema import Dom, Site
from browser.site.selectors import path_or_none
from browser.timeouts import within

LOOK_TIMEOUT_S = 5.0
POLL_INTERVAL_S = 0.05
UNCERTAIN_SETTLE_S = 1.0
"""How long an answer must rest, at least, where the page has never said that it is being written: it may not have
begun. hook.js's watchDom knows the same."""


class ShownAnswer(TypedDict):
    """What dom.js's `answer` returns. `text` is None as long as no answer shows; with `read = markdown` it is HTML.

    While something is `loading`, a part of the text is missing.
    """

    text: str | None
    done: bool
    busy: bool
    loading: bool
    error: str | None
    reasoning: str | None


def dom_query(dom: Dom, site: Site) -> dict[str, Any]:
    """Return what dom.js and the hook are to look for."""
    query: dict[str, Any] = {"read": dom.read, "stream": dom.stream, "hold_from": dom.hold_from}
    looked_for = ("answer", "done", "busy", "loading", "error", "reasoning")
    query |= {key: path_or_none(getattr(dom, key)) for key in looked_for}
    # Reasoning that stands in an answer is none of its text.
    ignored = (path_or_none(selector) for selector in (dom.ignore, dom.reasoning))
    query["ignore"] = ", ".join(path[-1]["css"] for path in ignored if path) or None
    baseline = {"baseline": site.fresh_chat.answers, "reasoning_baseline": 0}
    return query | baseline | {"settle_ms": dom.settle_s * 1000}


async def baseline_now(page: Page, dom: Dom) -> dict[str, int]:
    """Return the part of a query that tells the next answer from those that the page has by now.

    Raises PageBroken after 5 s, and Playwright's Error.
    """
    counting = page.evaluate(
        scripts.BASELINE, {"answer": path_or_none(dom.answer), "reasoning": path_or_none(dom.reasoning)}
    )
    try:
        baseline: dict[str, int] = await within(LOOK_TIMEOUT_S, counting, "answer-count")
    except TimeoutError:
        raise PageBroken("the page does not say how many answers it shows") from None
    return baseline


async def look(page: Page, query: dict[str, Any]) -> ShownAnswer:
    """Look at the newest answer, for 5 s at most. A page that cannot be looked at shows none."""
    try:
        shown: ShownAnswer = await within(LOOK_TIMEOUT_S, page.evaluate(scripts.ANSWER, query), "answer-look")
    except (Error, TimeoutError):  # between two documents, or the page is stuck
        return {"text": None, "done": False, "busy": False, "loading": False, "error": None, "reasoning": None}
    return shown


async def poll(page: Page, query: dict[str, Any], put: Callable[[Frame | Exception], object]) -> None:
    """Look until the answer is complete, and put what is new as the frames that the hook would have sent.

    An error in it is put, too: whoever waits for the next frame must hear of it.
    """
    changes = AnswerChanges(query)
    try:
        while not changes.complete:
            for frame in changes.frames(await look(page, query), asyncio.get_running_loop().time()):
                put(frame)
            await asyncio.sleep(POLL_INTERVAL_S)
    except Exception as error:  # noqa: BLE001 - as the docstring says
        put(error)


class AnswerChanges:
    """Tells from looks at the page what is new, and when the answer is complete."""

    def __init__(self, query: dict[str, Any]) -> None:
        self.complete = False
        self._needs_done = bool(query.get("done"))
        self._settle_s: float = query.get("settle_ms", 0) / 1000
        self._text: str | None = None
        self._reasoning: str | None = None
        self._at_rest_since: float | None = None
        self._was_busy = False

    def frames(self, shown: ShownAnswer, now: float) -> list[Frame]:
        """Return the frames of a look at `now`, in seconds of a monotonic clock."""
        frames = []
        if shown["error"] is not None:
            frames.append(_frame(FrameKind.DOM_ERROR, shown["error"]))
        if shown["reasoning"] and shown["reasoning"] != self._reasoning:
            self._reasoning = shown["reasoning"]
            frames.append(_frame(FrameKind.DOM_REASONING, self._reasoning))
        self._was_busy = self._was_busy or shown["busy"]
        is_new = shown["text"] != self._text and not shown["loading"]
        if is_new and shown["text"] is not None:
            self._text = shown["text"]
            frames.append(_frame(FrameKind.DOM_SET, shown["text"]))
        may_end = shown["done"] or not self._needs_done
        if shown["text"] is None or shown["busy"] or not may_end:
            self._at_rest_since = None
            return frames
        if self._at_rest_since is None or is_new:
            self._at_rest_since = now
        certain = self._needs_done or self._was_busy
        settle_s = self._settle_s if certain else max(self._settle_s, UNCERTAIN_SETTLE_S)
        if now - self._at_rest_since >= settle_s:
            self.complete = True
            frames.append(Frame(FrameKind.DOM_DONE))
        return frames


def _frame(kind: FrameKind, text: str) -> Frame:
    """Return the frame that the hook would send: a lone half of a surrogate pair is U+FFFD, or nothing at the end."""
    return Frame(kind, 0, whole_characters(text)[0].encode())

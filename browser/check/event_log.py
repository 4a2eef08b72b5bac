"""What came of the answers of a check, and how the reader of the product read it: the trace of `browser.capture`."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from browser.capture.frames import Frame, FrameKind
from browser.capture.trace import EventTrace, Unread

_TRAFFIC = (FrameKind.CHUNK, FrameKind.EVENT)
_DOM = (FrameKind.DOM_ADD, FrameKind.DOM_SET, FrameKind.DOM_DONE, FrameKind.DOM_ERROR, FrameKind.DOM_REASONING)


class EventLog:
    """Keeps what a `browser.capture.trace.Trace` is told: events as they were read, and frames that hold none."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._lines: list[str] = []
        self.begin()

    def begin(self) -> None:
        """Begin a new answer: `rows`, `events` and `from_dom` are of this one."""
        self.rows: list[dict[str, Any]] = []
        self.events: list[EventTrace] = []
        self.from_dom = 0
        self.arrived = asyncio.Event()

    def frame(self, frame: Frame) -> None:
        """Note a frame. Those of the page's traffic are kept by `event` and `unread`."""
        if frame.kind is FrameKind.ARMED:
            return
        self.arrived.set()
        if frame.kind in _DOM:
            self.from_dom += 1
        if frame.kind not in _TRAFFIC:
            self._add({"kind": frame.kind.name.lower(), "stream": frame.stream, "text": frame.text})

    def event(self, event: EventTrace) -> None:
        """Note an event, with what each expression found in it."""
        self.events.append(event)
        row = {"kind": "event", "stream": event.stream, "event": event.event, "data": event.data, "found": event.found}
        notes = {"skipped": event.skipped, "problem": event.problem}
        self._add(row | {key: note for key, note in notes.items() if note})

    def unread(self, frame: Frame, why: Unread) -> None:
        """Note a frame of the page's traffic that was not read."""
        self._add({"kind": frame.kind.name.lower(), "stream": frame.stream, "text": frame.text, "unread": why})

    def _add(self, row: dict[str, Any]) -> None:
        row = {"at_s": round(time.monotonic() - self._began, 3), **row}
        self.rows.append(row)
        # Written down at once: the reader's later changes to a document must not show in the events before them.
        try:
            line = json.dumps(row, ensure_ascii=False)
        except RecursionError:  # what could be read may still be too deep to be written
            line = json.dumps({key: row[key] for key in ("at_s", "kind", "stream")} | {"problem": "nested too deep"})
        self._lines.append(line)

    def as_jsonl(self) -> bytes:
        """Return all answers' rows, a JSON object a line."""
        return "".join(f"{line}\n" for line in self._lines).encode("utf-8", "replace")

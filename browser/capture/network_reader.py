"""From the page's traffic to an answer's text, as a site file's `capture.network` describes it."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import jmespath
import jmespath.exceptions

from browser.capture.findings import BrokenOff, Done, Finding, Lost, Reasoning, Refused, Text, Transcript, as_reasoning
from browser.capture.frames import Frame, FrameKind
from browser.capture.framing import WIRE_FORMATS, Event
from browser.capture.json_patch import Document, PatchMismatch
from browser.capture.trace import EventTrace, Trace
from browser.site.expressions import OPTIONS
from browser.site.schema import Network

MAX_REFUSAL_BYTES = 4096


class NetworkReader:
    """Reads an answer from what the page receives.

    The answer's stream is the first body that opens, or the first one with an event that counts. A body with an HTTP
    error is read as the site's refusal. `trace` is told of each event and of what is not read.
    """

    def __init__(
        self,
        network: Network,
        transcript: Transcript,
        trace: Trace | None = None,
        *,
        reasoning: Transcript | None = None,
    ) -> None:
        self._network = network
        self._transcript = transcript
        self._reasoning = reasoning or Transcript()
        self._trace = trace
        self._expressions = {name: jmespath.compile(text) for name, text in network.expressions.items()}
        self._framer = WIRE_FORMATS[network.kind].framer()
        self._document = Document()
        self._has_started = network.start is None
        self._may_end = network.end_after is None
        self._same: Any = None
        self._begun: set[str] = set()
        self._stream: int | None = None
        self._status: int | None = None
        self._refusal = b""

    @property
    def has_begun(self) -> bool:
        """Whether the answer's stream is known."""
        return self._stream is not None

    def read(self, frame: Frame) -> list[Finding]:
        """Return what is found in a frame, in order."""
        if frame.kind is FrameKind.OPEN and self._stream is None:
            self._stream = frame.stream
            self._status = json.loads(frame.payload)["status"]
        if frame.kind is FrameKind.EVENT and self._stream in (None, frame.stream):
            return self._read_events(self._framer.message(frame.payload), frame.stream)
        if frame.stream != self._stream:
            if self._trace and frame.kind in (FrameKind.CHUNK, FrameKind.EVENT):
                self._trace.unread(frame, "other_stream")
            return []
        if self._status is not None and self._status >= 400:
            return self._read_refusal(frame)
        return self._read_body(frame)

    def _read_refusal(self, frame: Frame) -> list[Finding]:
        if frame.kind is FrameKind.CHUNK:
            self._refusal = (self._refusal + frame.payload)[:MAX_REFUSAL_BYTES]
            if self._trace:
                self._trace.unread(frame, "refusal")
        if frame.kind in (FrameKind.END, FrameKind.BROKEN):
            return [Refused(self._status, self._refusal.decode("utf-8", "replace"))]
        return []

    def _read_body(self, frame: Frame) -> list[Finding]:
        if frame.kind is FrameKind.CHUNK:
            return self._read_events(self._framer.feed(frame.payload), frame.stream)
        if frame.kind is FrameKind.BROKEN:
            return [BrokenOff()]
        if frame.kind is not FrameKind.END:
            return []
        last = self._read_events(self._framer.finish(), frame.stream)
        if any(not isinstance(finding, Text | Reasoning) for finding in last):
            return last
        # Without the mark that the site file names, a connection that was cut looks just like one that ended.
        needs_mark = bool(self._network.end or self._network.end_data)
        return [*last, BrokenOff() if needs_mark or self._framer.has_rest() else Done()]

    def _read_events(self, events: list[Event], stream: int) -> list[Finding]:
        findings: list[Finding] = []
        for event in events:
            trace = EventTrace(stream, event.name, event.raw)
            try:
                findings += self._read_event(event, trace)
            except RecursionError:  # nested just below what JSON's reader takes, but not what looks into it
                trace.data = event.raw
            if self._trace:
                self._trace.event(trace)
            if findings and not isinstance(findings[-1], Text | Reasoning):
                break  # the answer is over, and what follows in the body is not read
        return findings

    def _read_event(self, event: Event, trace: EventTrace) -> list[Finding]:
        """Return what is found in an event, and note in its trace how."""
        network = self._network
        if not event.raw.startswith(network.prefix):
            trace.skipped = "prefix"
            return []
        event = Event(event.name, event.raw.removeprefix(network.prefix))
        trace.data = event.data()
        seen = {"event": event.name, "data": trace.data}
        if not self._has_started:
            self._has_started = bool(self._look("start", seen, trace))
        if not self._has_started:
            trace.skipped = "before_start"
            return []
        mark = self._look("same", seen, trace)
        if self._same is None:
            self._same = mark
        # An event without the mark belongs to the stream as a whole, such as a heartbeat.
        if mark is not None and mark != self._same:
            trace.skipped = "not_same"
            return []
        self._stream = trace.stream
        if self._may_end and event.raw == network.end_data:
            trace.found["end_data"] = event.raw
            return [Done()]
        if message := self._look("error", seen, trace):
            return [Refused(None, _as_text(message))]
        findings = self._read_text(seen, trace)
        if Lost() not in findings:
            findings = [*self._read_reasoning(seen, trace), *findings]
        if self._ends(seen, trace):
            findings.append(Done())
        return findings

    def _ends(self, seen: dict[str, Any], trace: EventTrace) -> bool:
        """Return whether the event is the answer's last; the one that `end_after` finds is not the end itself."""
        if self._may_end:
            return bool(self._look("end", seen, trace))
        self._may_end = bool(self._look("end_after", seen, trace))
        return False

    def _read_text(self, seen: dict[str, Any], trace: EventTrace) -> list[Finding]:
        if self._network.document:
            try:
                # What is kept is a copy: changes must reach neither the event nor a literal in the expression.
                if whole_document := self._look("document", seen, trace):
                    self._document = Document(deepcopy(whole_document))
                elif changes := self._look("changes", seen, trace):
                    self._document.apply(changes)
            except PatchMismatch:
                trace.problem = "patch_mismatch"
                return [Lost(fits_document=False)]
            seen["document"] = self._document.value
        name = self._look("message", seen, trace)
        message = name if isinstance(name, str) else None
        if isinstance(begun := self._look("begins", seen, trace), str):
            self._begun.add(begun)
        if self._network.begins and message not in self._begun:
            trace.skipped = "not_begun"
            return []
        text, whole = self._look("text", seen, trace), self._look("whole", seen, trace)
        findings = self._transcript.add(text, message) if isinstance(text, str) else []
        if whole and isinstance(whole, str):
            findings += self._transcript.whole(whole, message)
        if Lost() in findings:
            trace.problem = "contradiction"
        return findings

    def _read_reasoning(self, seen: dict[str, Any], trace: EventTrace) -> list[Finding]:
        part, whole = self._look("reasoning", seen, trace), self._look("reasoning_whole", seen, trace)
        found = self._reasoning.add(part) if isinstance(part, str) else []
        if whole and isinstance(whole, str):
            found += self._reasoning.whole(whole)
        return as_reasoning(found)

    def _look(self, name: str, seen: dict[str, Any], trace: EventTrace) -> Any:
        """Return what an expression of the site file finds in an event; None if the file has no such expression."""
        if name not in self._expressions:
            return None
        try:
            value = self._expressions[name].search(seen, OPTIONS)
        except jmespath.exceptions.JMESPathError:  # a function got what it does not take: an event of another kind
            return None
        if value or (value == 0 and value is not False):
            trace.found[name] = value
        return value


def _as_text(message: Any) -> str:
    """Return an error message that may be any JSON; what could be read may still be too deep to be written."""
    try:
        return message if isinstance(message, str) else json.dumps(message)
    except RecursionError:
        return "an error that is nested too deep"

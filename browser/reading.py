"""From frames to an answer's text: by the page's traffic as a site file describes it, or by its DOM."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jmespath

from browser.framing import Event, Framer, JsonlFramer, SseFramer, without_prefix
from browser.site_schema import Network
from browser.streamport import Frame, Kind

if TYPE_CHECKING:
    from jmespath.parser import ParsedResult


@dataclass(frozen=True)
class Text:
    """The next part of the answer."""

    text: str


@dataclass(frozen=True)
class Progress:
    """The answer goes on, but nothing of it can be passed on yet."""


@dataclass(frozen=True)
class Done:
    """The answer is complete."""


@dataclass(frozen=True)
class Refused:
    """The site says no: with an HTTP status, or in words, or both. The words never go further than matching."""

    status: int | None
    message: str


@dataclass(frozen=True)
class BrokenOff:
    """The site ended the answer before its end."""


@dataclass(frozen=True)
class Lost:
    """What came does not continue what was passed on, or something is missing."""


Finding = Text | Progress | Done | Refused | BrokenOff | Lost


class Transcript:
    """The answer so far; turns whole texts into what is new in them."""

    def __init__(self, passed_on: str = "") -> None:
        self.passed_on = passed_on

    def add(self, text: str) -> list[Finding]:
        self.passed_on += text
        return [Text(text)] if text else []

    def whole(self, text: str) -> list[Finding]:
        if not text.startswith(self.passed_on):
            return [Lost()]
        return self.add(text[len(self.passed_on) :])


class NetworkReader:
    """Reads an answer from what the page receives. The first body that opens, or speaks, is the answer's."""

    def __init__(self, network: Network, transcript: Transcript) -> None:
        self._network = network
        self._transcript = transcript
        self._start, self._text, self._whole, self._end, self._error = (
            jmespath.compile(expression) if expression else None
            for expression in (network.start, network.text, network.whole, network.end, network.error)
        )
        self._has_started = network.start is None
        self._stream: int | None = None
        self._status: int | None = None
        self._refusal = b""
        self._framer: Framer = JsonlFramer() if network.kind == "jsonl" else SseFramer()

    @property
    def has_begun(self) -> bool:
        return self._stream is not None

    def read(self, frame: Frame) -> list[Finding]:
        if frame.kind is Kind.OPEN and self._stream is None:
            self._stream = frame.stream
            self._status = json.loads(frame.payload)["status"]
        if frame.kind is Kind.EVENT and self._stream in (None, frame.stream):
            return self._read_event(self._event_of(frame.payload), frame.stream)
        if frame.stream != self._stream:
            return []
        return self._read_body(frame)

    def _read_body(self, frame: Frame) -> list[Finding]:
        if self._status is not None and self._status >= 400:
            return self._read_refusal(frame)
        if frame.kind is Kind.CHUNK:
            return self._read_events(self._framer.feed(frame.payload))
        if frame.kind is Kind.BROKEN:
            return [BrokenOff()]
        return self._finish() if frame.kind is Kind.END else []

    def _read_refusal(self, frame: Frame) -> list[Finding]:
        if frame.kind is Kind.CHUNK:
            self._refusal = (self._refusal + frame.payload)[:4096]
        if frame.kind in (Kind.END, Kind.BROKEN):
            return [Refused(self._status, self._refusal.decode("utf-8", "replace"))]
        return []

    def _finish(self) -> list[Finding]:
        last: list[Finding] = []
        if isinstance(self._framer, JsonlFramer):
            last = self._read_events(self._framer.feed(b"\n"))
        if any(not isinstance(finding, Text) for finding in last):
            return last
        needs_mark = bool(self._network.end or self._network.end_data)
        return [*last, BrokenOff() if needs_mark or self._framer.has_rest() else Done()]

    def _event_of(self, payload: bytes) -> Event:
        text = payload.decode("utf-8", "replace")
        if self._network.kind == "websocket":
            return Event(None, text)
        data = json.loads(text)  # an EventSource's: the hook's own JSON
        return Event(data["event"], data["data"])

    def _read_events(self, events: list[Event]) -> list[Finding]:
        return [finding for event in events for finding in self._read_event(event, self._stream)]

    def _read_event(self, event: Event, stream: int | None) -> list[Finding]:
        stripped = without_prefix(event, self._network.prefix)
        if stripped is None:
            return []
        document = stripped.document()
        self._has_started = self._has_started or _holds(self._start, document)
        if not self._has_started:
            return []
        self._stream = stream
        if stripped.raw == self._network.end_data:
            return [Done()]
        if said := _found(self._error, document):
            return [Refused(None, said if isinstance(said, str) else json.dumps(said))]
        findings = self._read_text(document)
        if _holds(self._end, document):
            findings.append(Done())
        return findings

    def _read_text(self, document: Any) -> list[Finding]:
        text, whole = _found(self._text, document), _found(self._whole, document)
        findings = self._transcript.add(text) if isinstance(text, str) else []
        return findings + (self._transcript.whole(whole) if whole and isinstance(whole, str) else [])


def _found(expression: "ParsedResult | None", document: Any) -> Any:
    return expression.search(document) if expression else None


def _holds(expression: "ParsedResult | None", document: Any) -> bool:
    return bool(_found(expression, document))


class DomReader:
    """Reads an answer from what the hook sees of it on the page.

    Text that was passed on and then changes is forgiven if the answer's last form continues it again.
    """

    def __init__(self, transcript: Transcript, *, stream: bool = True) -> None:
        self._transcript = transcript
        self._stream = stream
        self._shown = ""

    def read(self, frame: Frame) -> list[Finding]:
        if frame.kind in (Kind.DOM_ADD, Kind.DOM_SET):
            text = frame.payload.decode("utf-8", "replace")
            return self._show(self._shown + text if frame.kind is Kind.DOM_ADD else text)
        if frame.kind is Kind.DOM_ERROR:
            return [Refused(None, frame.payload.decode("utf-8", "replace"))]
        return self._finish() if frame.kind is Kind.DOM_DONE else []

    def _show(self, text: str) -> list[Finding]:
        self._shown = text
        if self._stream and text.startswith(self._transcript.passed_on):
            return self._transcript.whole(text)
        return [Progress()]

    def _finish(self) -> list[Finding]:
        rest = self._transcript.whole(self._shown)
        return rest if Lost() in rest else [*rest, Done()]

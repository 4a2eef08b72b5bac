"""From frames to an answer's text: by the page's traffic as a site file describes it, or by its DOM."""

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jmespath
import jmespath.exceptions

from browser.capture.framing import Event, Framer, JsonlFramer, SseFramer, without_prefix
from browser.capture.json_patch import Document, Unfit
from browser.capture.stream_port import Frame, Kind
from browser.site.schema import Network

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


@dataclass(frozen=True)
class LoggedOut:
    """The site told the page that its session is over."""


HTML_REST = 4  # of the time that making Markdown takes, while an answer is being written

Finding = Text | Progress | Done | Refused | BrokenOff | LoggedOut | Lost


class Transcript:
    """The answer so far; turns whole texts into what is new in them.

    An answer may come as several messages, each under a name: a blank line goes between them. None is the
    message of which text came last.
    """

    def __init__(self, passed_on: str = "") -> None:
        self.passed_on = passed_on
        self._message: str | None = None
        self._message_at = 0
        self._earlier: dict[str, str] = {}

    def add(self, text: str, message: str | None = None) -> list[Finding]:
        if not text:
            return []
        if message in self._earlier:
            return [Lost()]
        text = self._turn_to(message) + text
        self.passed_on += text
        return [Text(text)]

    def whole(self, text: str, message: str | None = None) -> list[Finding]:
        known = self._known(message)
        return self.add(text[len(known) :], message) if text.startswith(known) else [Lost()]

    def _known(self, message: str | None) -> str:
        if message is None or message == self._message:
            return self.passed_on[self._message_at :]
        return self._earlier.get(message, "")

    def _turn_to(self, message: str | None) -> str:
        """Go on with this message. Returns what goes before it."""
        if message is None or message == self._message:
            return ""
        if self._message is not None:
            self._earlier[self._message] = self.passed_on[self._message_at :]
        between = "\n\n" if self.passed_on else ""
        self._message, self._message_at = message, len(self.passed_on) + len(between)
        return between


class NetworkReader:
    """Reads an answer from what the page receives. The first body that opens, or speaks, is the answer's."""

    def __init__(self, network: Network, transcript: Transcript) -> None:
        self._network = network
        self._transcript = transcript
        self._start, self._same, self._end, self._error = map(
            _compiled, (network.start, network.same, network.end, network.error)
        )
        self._text, self._whole, self._message, self._begins = map(
            _compiled, (network.text, network.whole, network.message, network.begins)
        )
        self._document_in, self._changes = map(_compiled, (network.document, network.changes))
        self._document = Document()
        self._common: Any = None
        self._begun: set[str] = set()
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
        seen = stripped.document()
        self._has_started = self._has_started or _holds(self._start, seen)
        if not self._has_started or not self._is_of_answer(seen):
            return []
        self._stream = stream
        if stripped.raw == self._network.end_data:
            return [Done()]
        if said := _found(self._error, seen):
            return [Refused(None, said if isinstance(said, str) else json.dumps(said))]
        findings = self._read_text(seen)
        if _holds(self._end, seen):
            findings.append(Done())
        return findings

    def _is_of_answer(self, seen: dict[str, Any]) -> bool:
        mark = _found(self._same, seen)
        if self._common is None:
            self._common = mark
        return mark in (None, self._common)

    def _read_text(self, seen: dict[str, Any]) -> list[Finding]:
        try:
            self._update_document(seen)
        except Unfit:
            return [Lost()]
        name = _found(self._message, seen)
        message = name if isinstance(name, str) else None
        if isinstance(begun := _found(self._begins, seen), str):
            self._begun.add(begun)
        if self._begins and message not in self._begun:
            return []
        text, whole = _found(self._text, seen), _found(self._whole, seen)
        findings = self._transcript.add(text, message) if isinstance(text, str) else []
        return findings + (self._transcript.whole(whole, message) if whole and isinstance(whole, str) else [])

    def _update_document(self, seen: dict[str, Any]) -> None:
        if not self._document_in:
            return
        if whole := _found(self._document_in, seen):
            self._document.value = whole
        elif changes := _found(self._changes, seen):
            self._document.apply(changes)
        seen["document"] = self._document.value


def _compiled(expression: str | None) -> "ParsedResult | None":
    return jmespath.compile(expression) if expression else None


def _found(expression: "ParsedResult | None", seen: Any) -> Any:
    try:
        return expression.search(seen) if expression else None
    except jmespath.exceptions.JMESPathError:  # a function got what it does not take: an event of another kind
        return None


def _holds(expression: "ParsedResult | None", seen: Any) -> bool:
    return bool(_found(expression, seen))


class DomReader:
    """Reads an answer from what the hook sees of it on the page.

    Text that was passed on and then changes is forgiven if the answer's last form continues it again. With
    `html` frames hold HTML, of which Markdown is made: of an answer that is still being written only the blocks
    before its last one are passed on, because the last may yet become something else.
    """

    def __init__(self, transcript: Transcript, *, stream: bool = True, html: bool = False) -> None:
        self._transcript = transcript
        self._stream = stream
        self._html = html
        self._shown = ""
        self._busy_until = 0.0

    def read(self, frame: Frame) -> list[Finding]:
        if frame.kind in (Kind.DOM_ADD, Kind.DOM_SET):
            text = frame.payload.decode("utf-8", "replace")
            return self._show(self._shown + text if frame.kind is Kind.DOM_ADD else text)
        if frame.kind is Kind.DOM_ERROR:
            return [Refused(None, frame.payload.decode("utf-8", "replace"))]
        return self._finish() if frame.kind is Kind.DOM_DONE else []

    def _show(self, shown: str) -> list[Finding]:
        self._shown = shown
        text = self._steady_text() if self._stream else None
        if text is not None and text.startswith(self._transcript.passed_on):
            return self._transcript.whole(text) or [Progress()]
        return [Progress()]

    def _steady_text(self) -> str | None:
        """Return the text so far that is there to stay; None where it is too early to make it again."""
        if not self._html:
            return self._shown
        began = time.monotonic()
        if began < self._busy_until:
            return None
        blocks = as_text(self._shown, html=True).rpartition("\n\n")[0]
        self._busy_until = time.monotonic() + HTML_REST * (time.monotonic() - began)
        return blocks

    def _finish(self) -> list[Finding]:
        rest = self._transcript.whole(as_text(self._shown, html=self._html))
        return rest if Lost() in rest else [*rest, Done()]


def as_text(shown: str, *, html: bool) -> str:
    """Return an answer's text of what the page shows: the Markdown of its HTML, or as it is."""
    if not html:
        return shown
    from browser.capture.markdown import from_html  # noqa: PLC0415 - costs 100 ms, and most answers never need it

    return from_html(shown)

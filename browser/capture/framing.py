"""Cutting what a page received into events: server-sent events, lines of JSON, WebSocket frames.

Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import codecs
import json
import re
from dataclasses import dataclass
from typing import Any, Protocol

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Event:
    """One event as the site sent it; `raw` is its data as text."""

    name: str | None
    raw: str

    def document(self) -> dict[str, Any]:
        """Return what a site file's expressions see: the event's name, and its data as JSON or else text."""
        return {"event": self.name, "data": _json_or_text(self.raw)}


def _json_or_text(raw: str) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw


class Framer(Protocol):
    """Cuts one body; a chunk may begin and end anywhere, in the middle of a character too."""

    def feed(self, chunk: bytes) -> list[Event]: ...

    def has_rest(self) -> bool:
        """Tell whether the body so far ends in the middle of an event."""
        ...


class _Lines:
    """Cuts bytes into lines of text, without their ends."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.rest = ""

    def feed(self, chunk: bytes) -> list[str]:
        text = self.rest + self._decode(chunk)
        if text.endswith("\r"):  # the other half of a CRLF may follow
            self.rest = text
            return []
        *lines, self.rest = _LINE_END.split(text)
        return lines


class SseFramer:
    """Cuts `text/event-stream`."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._is_first = True
        self._name: str | None = None
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Event]:
        events = (self._take(line) for line in self._lines.feed(chunk))
        return [event for event in events if event]

    def has_rest(self) -> bool:
        return bool(self._lines.rest.strip() or self._data)

    def _take(self, line: str) -> Event | None:
        if self._is_first:
            line = line.removeprefix("\ufeff")
            self._is_first = False
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._name = value
        return None

    def _dispatch(self) -> Event | None:
        event = Event(self._name, "\n".join(self._data)) if self._data else None
        self._name, self._data = None, []
        return event


class JsonlFramer:
    """Cuts a body of one JSON value a line; the last line needs no end."""

    def __init__(self) -> None:
        self._lines = _Lines()

    def feed(self, chunk: bytes) -> list[Event]:
        return [Event(None, line) for line in self._lines.feed(chunk) if line.strip()]

    def has_rest(self) -> bool:
        return bool(self._lines.rest.strip())


def without_prefix(event: Event, prefix: str) -> Event | None:
    """Return the event without what stands before its data, or None if it does not begin so."""
    if not event.raw.startswith(prefix):
        return None
    return Event(event.name, event.raw[len(prefix) :])

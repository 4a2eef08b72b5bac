"""Cutting what a page received into events, by the site file's `capture.network.kind`.

Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

A further kind is a framer here with its line in WIRE_FORMATS, and its name in `browser.site.schema.NetworkKind`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import msgspec

from browser.site.schema import NetworkKind

_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class Event:
    """One event as the site sent it; `raw` is its data as text."""

    name: str | None
    raw: str

    def data(self) -> Any:
        """Return the data as JSON, or as the text it is."""
        try:
            return json.loads(self.raw)
        except (ValueError, RecursionError):
            return self.raw


class Framer(Protocol):
    """Cuts what one stream of the page brings into events."""

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that a chunk of a body completes; it may end anywhere, even inside a character."""
        ...

    def message(self, payload: bytes) -> list[Event]:
        """Return the events in what the page received in one piece: a frame, or an event of an EventSource."""
        ...

    def finish(self) -> list[Event]:
        """Return the events that only the end of the body completes."""
        ...

    def has_rest(self) -> bool:
        """Tell whether the body so far ends inside an event."""
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
    """Cuts `text/event-stream`, and takes the events of an EventSource."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._is_first = True
        self._name: str | None = None
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that a chunk completes."""
        events: list[Event] = []
        for line in self._lines.feed(chunk):
            if self._is_first:
                line = line.removeprefix("\ufeff")  # noqa: PLW2901 - a byte order mark is no part of the line
                self._is_first = False
            field, _, value = line.partition(":")
            if field == "data":
                self._data.append(value.removeprefix(" "))
            elif field == "event":
                self._name = value.removeprefix(" ")
            elif not line:
                if self._data:
                    events.append(Event(self._name, "\n".join(self._data)))
                self._name, self._data = None, []
        return events

    def message(self, payload: bytes) -> list[Event]:
        """Return the event of an EventSource, which the hook sends as JSON of its own."""
        sent = json.loads(payload.decode("utf-8", "replace"))
        return [Event(sent["event"], sent["data"])]

    def finish(self) -> list[Event]:
        """Return nothing: an event without its blank line is discarded, as the specification says."""
        return []

    def has_rest(self) -> bool:
        """Tell whether the body so far ends inside an event."""
        return bool(self._lines.rest.strip() or self._data)


class JsonlFramer:
    """Cuts a body of one JSON value a line; the last line needs no end."""

    def __init__(self) -> None:
        self._lines = _Lines()

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the lines that a chunk completes; blank ones are none."""
        return [Event(None, line) for line in self._lines.feed(chunk) if line.strip()]

    def message(self, payload: bytes) -> list[Event]:
        """Return the lines of a message."""
        return self.feed(payload + b"\n")

    def finish(self) -> list[Event]:
        """Return the last line, if it has no end."""
        return self.feed(b"\n")

    def has_rest(self) -> bool:
        """Tell whether the body so far ends inside a line."""
        return bool(self._lines.rest.strip())


class WebSocketFramer:
    """Takes each frame of a WebSocket as an event; a WebSocket has no body."""

    def feed(self, chunk: bytes) -> list[Event]:  # noqa: ARG002 - the hook sends no chunks of a WebSocket
        """Return nothing."""
        return []

    def message(self, payload: bytes) -> list[Event]:
        """Return the frame as an event."""
        return [Event(None, payload.decode("utf-8", "replace"))]

    def finish(self) -> list[Event]:
        """Return nothing."""
        return []

    def has_rest(self) -> bool:
        """Return False: a frame comes whole."""
        return False


class MsgpackFramer(WebSocketFramer):
    """Takes each frame of a WebSocket as a value in MessagePack; one that is none, such as text, as it stands.

    https://github.com/msgpack/msgpack/blob/master/spec.md
    """

    def message(self, payload: bytes) -> list[Event]:
        """Return the frame as an event whose data is JSON: binary values in base64, timestamps by RFC 3339."""
        try:
            value = msgspec.msgpack.decode(payload, ext_hook=lambda _, data: bytes(data))
            return [Event(None, msgspec.json.encode(value).decode())]
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):  # JSON has no lists for keys
            return super().message(payload)


@dataclass(frozen=True)
class WireFormat:
    """One value of `capture.network.kind`.

    `source` is where the hook looks for it: `sse` in response bodies and EventSource, `jsonl` in response bodies,
    `websocket` in the frames of WebSockets, text or binary.
    """

    source: Literal["sse", "jsonl", "websocket"]
    framer: Callable[[], Framer]


WIRE_FORMATS: Final[Mapping[NetworkKind, WireFormat]] = {
    "sse": WireFormat("sse", SseFramer),
    "jsonl": WireFormat("jsonl", JsonlFramer),
    "websocket": WireFormat("websocket", WebSocketFramer),
    "msgpack": WireFormat("websocket", MsgpackFramer),
}

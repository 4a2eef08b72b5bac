"""The events of an answer as the hook sent them, with what the site file's expressions find in each."""

import asyncio
import json
import time
from typing import Any

import jmespath

from browser.capture.framing import Event, Framer, JsonlFramer, SseFramer, without_prefix
from browser.capture.stream_port import Frame, Kind
from browser.site.schema import Network

_EXPRESSIONS = ("start", "text", "whole", "end", "error")
_DOM = {Kind.DOM_ADD, Kind.DOM_SET, Kind.DOM_DONE, Kind.DOM_ERROR}


class EventLog:
    """Takes frames and keeps them as events; one answer after the other."""

    def __init__(self, network: Network | None) -> None:
        self._network = network
        self._began = time.monotonic()
        self._framers: dict[int, Framer] = {}
        self._refused: set[int] = set()  # what came with an error's status is no stream of events
        self._expressions = {
            name: jmespath.compile(text) for name in _EXPRESSIONS if network and (text := getattr(network, name))
        }
        self._all: list[dict[str, Any]] = []
        self.begin()

    def begin(self) -> None:
        """A new answer begins: what is counted is of this one."""
        self._framers.clear()
        self._refused.clear()
        self._mark = len(self._all)
        self.from_dom = 0
        self.arrived = asyncio.Event()

    def take(self, frame: Frame) -> None:
        if frame.kind is Kind.ARMED:
            return
        self.arrived.set()
        if frame.kind in _DOM:
            self.from_dom += 1
        if frame.kind is Kind.OPEN and b'"status":2' not in frame.payload:
            self._refused.add(frame.stream)
        if frame.kind is Kind.CHUNK and self._network and frame.stream not in self._refused:
            framer = self._framers.setdefault(frame.stream, _framer(self._network))
            for event in framer.feed(frame.payload):
                self._add_event(event, frame.stream)
        elif frame.kind is Kind.EVENT and self._network:
            self._add_event(self._event_of(frame.payload), frame.stream)
        else:
            self._finish_lines(frame)
            self._add({"kind": frame.kind.name.lower(), "stream": frame.stream, "text": _text(frame.payload)})

    def _finish_lines(self, frame: Frame) -> None:
        framer = self._framers.get(frame.stream)
        if frame.kind is Kind.END and isinstance(framer, JsonlFramer):  # the last line needs no end
            for event in framer.feed(b"\n"):
                self._add_event(event, frame.stream)

    def _event_of(self, payload: bytes) -> Event:
        if self._network and self._network.kind == "websocket":
            return Event(None, _text(payload))
        data = json.loads(payload)  # an EventSource's: the hook's own JSON
        return Event(data["event"], data["data"])

    def _add_event(self, event: Event, stream: int) -> None:
        stripped = without_prefix(event, self._network.prefix if self._network else "")
        if stripped is None:
            self._add({"kind": "without prefix", "stream": stream, "text": event.raw})
            return
        document = stripped.document()
        found = {name: expression.search(document) for name, expression in self._expressions.items()}
        self._add({"kind": "event", "stream": stream, **document, "found": {k: v for k, v in found.items() if v}})

    def _add(self, row: dict[str, Any]) -> None:
        self._all.append({"at_s": round(time.monotonic() - self._began, 3), **row})

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What came of the present answer: events, and frames that are none."""
        return self._all[self._mark :]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["kind"] == "event"]

    def as_jsonl(self) -> bytes:
        return b"".join(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for row in self._all)


def _framer(network: Network) -> Framer:
    return JsonlFramer() if network.kind == "jsonl" else SseFramer()


def _text(payload: bytes) -> str:
    return payload.decode("utf-8", "replace")

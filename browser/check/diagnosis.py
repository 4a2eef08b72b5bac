"""Which line of `capture.network` is wrong, by the trace of how an answer was read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from browser.capture.framing import WIRE_FORMATS
from browser.capture.trace import EventTrace
from browser.check.plain_text import plain
from browser.site.schema import Network

SAMPLES = 3
# What is not UTF-8 was replaced, and text has none of these: but for the ends of records, as in SignalR and STOMP.
_BINARY = re.compile("[\ufffd\x01-\x08\x0b\x0c\x0e-\x1d\x1f]")


@dataclass(frozen=True)
class Diagnosis:
    """What to say of a failure, and the site file's keys that it is about; the most likely one first."""

    hints: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to say."""
        return bool(self.hints or self.keys)

    def __add__(self, other: Diagnosis) -> Diagnosis:
        """Return both, this one first, each hint and key once."""
        hints, keys = (*self.hints, *other.hints), (*self.keys, *other.keys)
        return Diagnosis(tuple(dict.fromkeys(hints)), tuple(dict.fromkeys(keys)))


def _has_text(events: Iterable[EventTrace]) -> bool:
    """Tell whether any event gave text."""
    return any(isinstance(text, str) for key in ("text", "whole") for text in _found(events, key))


def of_failure(network: Network, events: Sequence[EventTrace], *, error_shown: bool = False) -> Diagnosis:
    """Say why an answer failed. `error_shown`: the page shows an error of the site's."""
    found = _found(events, "error")
    if found:
        return Diagnosis((f"capture.network.error finds {plain(found[0])!r}",), _keys("error"))
    read = _read(events)
    if error_shown and network.error and read:
        hint = f"capture.network.error finds it in none of {len(read)} events; the last of them:"
        return _blame(hint, read[-SAMPLES:], "error")
    if error_shown:
        return Diagnosis()
    return _no_end(network, events) if _has_text(events) else _no_text(network, events)


def of_fallback(network: Network, events: Sequence[EventTrace]) -> Diagnosis:
    """Say why the page had to be read where the traffic was to be."""
    return _lost_text(network, events) if _has_text(events) else _no_text(network, events)


def of_success(network: Network, events: Sequence[EventTrace]) -> Diagnosis:
    """Name the expressions that found nothing in a whole answer, though the answer was read without them."""
    read = _read(events)
    # A page need not reason, nor fail.
    may_be_idle = ("error", "end", "reasoning", "reasoning_whole")
    idle = [key for key in network.expressions if key not in may_be_idle and not _found(read, key)]
    return Diagnosis(tuple(_finds_nothing(key, read) for key in idle), _keys(*idle))


def _no_text(network: Network, events: Sequence[EventTrace]) -> Diagnosis:
    """Say why the traffic gave no text.

    The reader looks at the keys in a fixed order, each on what the ones before it let pass. So the first one that
    let nothing pass is to blame, and not those after it.
    """
    if why := _lost_text(network, events) or _binary(network, events) or _nothing_counts(events):
        return why
    counted = _counted(events)
    hints, keys = [], []
    if "end" in counted[0].found:
        hints.append("capture.network.end holds for the answer's first event")
        keys.append("end")
    # Without the document its texts find nothing either, which is not their fault.
    lacks_document = network.document is not None and not _found(counted, "document")
    for key in ("document",) if lacks_document else ("text", "whole"):
        if key in network.expressions:
            found = _found(counted, key)
            no_text = f"capture.network.{key} finds no text but {plain(found[0], 60)}" if found else ""
            hints.append(no_text or _finds_nothing(key, counted))
            keys.append(key)
    return Diagnosis((*hints, *samples(counted)), _keys(*keys))


def _binary(network: Network, events: Sequence[EventTrace]) -> Diagnosis:
    """Say that the frames of a websocket are binary, where most of them are."""
    binary = [event for event in events if isinstance(event.data, str) and _BINARY.search(event.data)]
    if WIRE_FORMATS[network.kind].source != "websocket" or 2 * len(binary) <= len(events):
        return Diagnosis()
    if network.kind == "msgpack":
        hint = f"{len(binary)} of {len(events)} frames are binary, and no MessagePack, which kind = 'msgpack' reads"
    else:
        hint = f"{len(binary)} of {len(events)} frames are binary; if they are MessagePack, kind = 'msgpack' reads them"
    dom = "others, such as protobuf, cannot be read: leave capture.network out, and read the page by capture.dom"
    return Diagnosis((hint, dom), _keys("kind"))


def _nothing_counts(events: Sequence[EventTrace]) -> Diagnosis:
    """Say by which key no event, or next to none, counts as the answer's."""
    read = _read(events)
    if not events:
        return Diagnosis(("what was caught holds no event",), _keys("kind", "url"))
    if all(event.skipped in ("prefix", "before_start") for event in events):
        key, does = ("start", "holds for") if read else ("prefix", "stands before")
        return _blame(f"capture.network.{key} {does} none of {len(read or events)} events", read or events, key)
    counted, others = _counted(events), [event for event in read if event.skipped == "not_same"]
    if len(others) > len(counted):
        first = next(iter(_found(counted, "same")), None)
        hint = (
            f"capture.network.same finds {plain(first, 40)} in the answer's first event, "
            f"and something else in {len(others)} of {len(read)} events, which do not count"
        )
        return _blame(hint, others, "same")
    if all(event.skipped == "not_begun" for event in counted):
        for key in ("begins", "message"):
            if not _found(counted, key):
                return _blame(_finds_nothing(key, counted), counted, key)
        hint = "what capture.network.message finds is never what capture.network.begins found before"
        return _blame(hint, counted, "message", "begins")
    return Diagnosis()


def _no_end(network: Network, events: Sequence[EventTrace]) -> Diagnosis:
    """Say why an answer that has text never ended."""
    if lost := _lost_text(network, events):
        return lost
    read = _read(events)
    last = tuple(samples(read[-SAMPLES:]))
    if network.end_after and not _found(read, "end_after"):
        hint = f"{_finds_nothing('end_after', read)}, and no end counts before it does; the last of them:"
        return Diagnosis((hint, *last), _keys("end_after"))
    marks = [key for key in ("end", "end_data") if getattr(network, key)]
    if not marks:
        hint = "without capture.network.end the answer ends with its request, which goes on; the last events:"
        return Diagnosis((hint, *last), ("capture.network.end", "capture.network"))
    hint = f"{' and '.join(_keys(*marks))} held for none of {len(read)} events; the last of them:"
    if others := sum(event.skipped == "not_same" for event in read):
        return Diagnosis((hint, *last, f"by capture.network.same {others} events do not count"), _keys(*marks, "same"))
    return Diagnosis((hint, *last), _keys(*marks))


def is_broken(events: Sequence[EventTrace]) -> bool:
    """Tell whether an event kept the reader from reading the traffic on."""
    return any(event.problem for event in events)


def _lost_text(network: Network, events: Sequence[EventTrace]) -> Diagnosis:
    """Say why the reader could not read the traffic on, if it could not."""
    broken = next((event for event in events if event.problem), None)
    if broken is None:
        return Diagnosis()
    if broken.problem == "patch_mismatch":
        changes = f"  changes: {plain(broken.found.get('changes'))}"
        if not _found(events, "document"):
            return Diagnosis((f"{_finds_nothing('document', events)}, and changes came", changes), _keys("document"))
        hint = "capture.network.changes finds what does not fit the document"
        return Diagnosis((hint, changes), _keys("changes", "document"))
    keys = [key for key in ("whole", "text", "message") if key in network.expressions]
    found = [f"  capture.network.{key}: {plain(broken.found[key])}" for key in keys if key in broken.found]
    return Diagnosis(("the text of an event does not continue the text before it", *found), _keys(*keys))


def samples(events: Iterable[EventTrace]) -> Iterable[str]:
    """Show the first few events."""
    for event in [event for event in events if event.data][:SAMPLES]:
        name = f"event {event.event!r}, " if event.event else ""
        yield f"  {name}data: {plain(event.data)}"


def _blame(hint: str, events: Iterable[EventTrace], *keys: str) -> Diagnosis:
    return Diagnosis((hint, *samples(events)), _keys(*keys))


def _finds_nothing(key: str, events: Sequence[EventTrace]) -> str:
    return f"capture.network.{key} finds something in none of {len(events)} events"


def _keys(*keys: str) -> tuple[str, ...]:
    return tuple(f"capture.network.{key}" for key in keys)


def _found(events: Iterable[EventTrace], key: str) -> list[Any]:
    return [event.found[key] for event in events if key in event.found]


def _read(events: Iterable[EventTrace]) -> list[EventTrace]:
    return [event for event in events if event.skipped != "prefix"]


def _counted(events: Iterable[EventTrace]) -> list[EventTrace]:
    """Return the events that are of the answer by `start` and `same`."""
    return [event for event in events if event.skipped in (None, "not_begun")]

"""Bodies cut into events, wherever their chunks end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from browser.capture.framing import WIRE_FORMATS, Event, Framer, JsonlFramer, SseFramer
from browser.site.schema import NetworkKind

SSE = (
    "\ufeff: a comment\r\n\r\n"
    'event: token\r\ndata: {"text": "Grüße 東京 👩‍🚀"}\r\nid: 7\r\n\r\n'
    "data: first line\ndata:second line\n\n"
    "data: cr only\r\r"
    "retry: 10\n\n"
    "data\n\n"
    "data: [DONE]\n\n"
).encode()
SSE_EVENTS = [
    Event("token", '{"text": "Grüße 東京 👩‍🚀"}'),
    Event(None, "first line\nsecond line"),
    Event(None, "cr only"),
    Event(None, ""),
    Event(None, "[DONE]"),
]
JSONL = '{"a": 1}\r\n\n{"b": "é"}\n{"c": 3}\n'.encode()
JSONL_EVENTS = [Event(None, '{"a": 1}'), Event(None, '{"b": "é"}'), Event(None, '{"c": 3}')]


def feed_all(framer: Framer, body: bytes, cuts: list[int]) -> list[Event]:
    ends = [*sorted(cuts), len(body)]
    starts = [0, *ends]
    return [event for start, end in zip(starts, ends, strict=False) for event in framer.feed(body[start:end])]


@given(st.lists(st.integers(0, len(SSE))))
def test_server_sent_events_are_the_same_wherever_the_chunks_end(cuts: list[int]) -> None:
    framer = SseFramer()
    assert feed_all(framer, SSE, cuts) == SSE_EVENTS
    assert not framer.has_rest()


@given(st.lists(st.integers(0, len(JSONL))))
def test_lines_of_json_are_the_same_wherever_the_chunks_end(cuts: list[int]) -> None:
    framer = JsonlFramer()
    assert feed_all(framer, JSONL, cuts) == JSONL_EVENTS
    assert not framer.has_rest()


@pytest.mark.parametrize("body", [b"data: half", b"data: half\n", b"event: token"])
def test_a_body_that_ends_in_an_event_says_so(body: bytes) -> None:
    framer = SseFramer()
    assert framer.feed(body) == []
    assert framer.has_rest()


def test_every_line_goes_out_when_its_end_is_there() -> None:
    framer = SseFramer()
    assert framer.feed(b"data: x\n\n") == [Event(None, "x")]


def test_data_that_is_not_json_stays_text() -> None:
    assert Event("a", "x{").data() == "x{"
    assert Event(None, "[1]").data() == [1]


def test_every_kind_of_a_site_file_has_its_framer() -> None:
    assert set(WIRE_FORMATS) == set(get_args(NetworkKind))


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
        max_leaves=10,
    )
)
def test_a_frame_of_messagepack_is_what_the_site_put_into_it(value: Any) -> None:
    [event] = WIRE_FORMATS["msgpack"].framer().message(msgspec.msgpack.encode(value))
    assert event.data() == value


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (msgspec.msgpack.encode({"id": b"\x00\xff"}), {"id": "AP8="}),
        (msgspec.msgpack.encode([msgspec.msgpack.Ext(5, b"ab")]), ["YWI="]),
        (msgspec.msgpack.encode(datetime(2026, 11, 29, tzinfo=UTC)), "2026-11-29T00:00:00Z"),
        (msgspec.msgpack.encode({1: "a"}), {"1": "a"}),
        (b'{"text": "not packed"}', {"text": "not packed"}),
        (b"\x81\x91\x01\x02", "\ufffd\ufffd\x01\x02"),
        (b"\x91" * 100_000 + b"\x01", "\ufffd" * 100_000 + "\x01"),
        (b"\xc1", "\ufffd"),
        (b"", ""),
    ],
    ids=["binary", "extension", "timestamp", "number key", "text", "list key", "nested too deep", "unused", "empty"],
)
def test_frames_among_messagepack(frame: bytes, data: Any) -> None:
    [event] = WIRE_FORMATS["msgpack"].framer().message(frame)
    assert event.data() == data

"""Streams are cut between events only, and their bytes stay as they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.proxy.response import EventFraming

ENDS = (b"\n\n", b"\r\n\r\n")


@given(
    st.lists(st.sampled_from([b"data: {", b"}", b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b": x"]), max_size=60),
    st.data(),
)
def test_bytes_and_order_are_kept_and_every_cut_is_between_events(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    framing, sent = EventFraming(), b""
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        passed = framing.feed(stream[start:stop])
        sent += passed
        assert not passed or sent.endswith(ENDS)
        assert framing.before_event() == b""
    last = max(stream.rfind(end) + len(end) if end in stream else 0 for end in ENDS)
    assert len(sent) >= last - 2  # of two ends that overlap, the second is not seen as one
    assert sent + framing.rest() == stream


def test_a_whole_event_passes_as_the_same_object() -> None:
    chunk = b"data: 1\n\n"
    assert EventFraming().feed(chunk) is chunk


@pytest.mark.parametrize("end", ENDS)
def test_what_is_inside_an_event_waits_for_its_end(end: bytes) -> None:
    framing = EventFraming()
    assert framing.feed(b"data: 1" + end + b"data: 2") == b"data: 1" + end
    assert framing.feed(b"3") == b""
    assert framing.feed(end[:1]) == b""
    assert framing.feed(end[1:]) == b"data: 23" + end


def test_a_huge_event_is_not_held_and_our_own_event_begins_after_a_blank_line() -> None:
    framing = EventFraming()
    piece = b"data: " + b"x" * 600_000
    assert framing.feed(piece) == b""
    assert framing.feed(piece) == piece + piece
    assert framing.before_event() == b"\n\n"
    assert framing.feed(b"\n\n") == b"\n\n"
    assert framing.before_event() == b""

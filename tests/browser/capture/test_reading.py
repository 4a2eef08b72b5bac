"""Frames of an answer, and what the two readers find in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from browser.capture.dom_poll import AnswerChanges, ShownAnswer
from browser.capture.dom_reader import DomReader
from browser.capture.findings import BrokenOff, Done, Finding, Lost, Progress, Reasoning, Refused, Text, Transcript
from browser.capture.frames import Frame, FrameKind
from browser.capture.network_reader import NetworkReader
from browser.site.schema import Network


def network(**changes: Any) -> Network:
    plan: dict[str, Any] = {
        "kind": "sse",
        "url": "*",
        "text": "data.text",
        "end": "data.end",
        "error": "data.error",
    }
    return Network.model_validate(plan | changes)


def reader(**changes: Any) -> NetworkReader:
    return NetworkReader(network(**changes), Transcript())


def opened(stream: int = 1, status: int = 200) -> Frame:
    return Frame(FrameKind.OPEN, stream, json.dumps({"status": status}).encode())


def sse(*data: Any, stream: int = 1) -> Frame:
    return Frame(FrameKind.CHUNK, stream, "".join(f"data: {json.dumps(item)}\n\n" for item in data).encode())


def read_all(reading: NetworkReader | DomReader, *frames: Frame) -> list[Finding]:
    return [finding for frame in frames for finding in reading.read(frame)]


def test_deltas_and_the_end() -> None:
    frames = [opened(), sse({"text": "a"}, {"other": 1}), sse({"text": "b"}, {"end": True})]
    assert read_all(reader(), *frames) == [Text("a"), Text("b"), Done()]


def test_whole_texts_give_what_is_new_in_them() -> None:
    frames = [opened(), sse({"text": "a"}, {"text": "ab"}, {"text": "ab"}, {"text": "abc", "end": True})]
    assert read_all(reader(text=None, whole="data.text"), *frames) == [Text("a"), Text("b"), Text("c"), Done()]


def test_a_whole_text_that_takes_something_back_is_a_loss() -> None:
    assert read_all(reader(text=None, whole="data.text"), opened(), sse({"text": "ab"}, {"text": "b"})) == [
        Text("ab"),
        Lost(),
    ]


def test_parts_are_checked_against_the_whole() -> None:
    frames = [opened(), sse({"text": "a"}, {"all": "ab"}, {"text": "c"}, {"all": "abc"})]
    assert read_all(reader(whole="data.all"), *frames) == [Text("a"), Text("b"), Text("c")]
    assert read_all(reader(whole="data.all"), opened(), sse({"text": "b"}, {"all": "ab"})) == [Text("b"), Lost()]


def test_events_before_the_start_do_not_count() -> None:
    frames = [opened(), sse({"end": True}, {"error": "old"}, {"text": "old"}, {"start": 1, "text": "a"}, {"end": 1})]
    assert read_all(reader(start="data.start"), *frames) == [Text("a"), Done()]


def test_the_body_that_opens_first_is_the_answers() -> None:
    frames = [opened(1), opened(2), sse({"text": "title"}, stream=2), sse({"text": "answer"}, stream=1)]
    assert read_all(reader(), *frames) == [Text("answer")]


def test_a_body_that_ends_without_its_mark_is_broken_off() -> None:
    assert read_all(reader(), opened(), sse({"text": "a"}), Frame(FrameKind.END, 1)) == [Text("a"), BrokenOff()]
    assert read_all(reader(), opened(), Frame(FrameKind.BROKEN, 1)) == [BrokenOff()]


def test_without_a_mark_the_end_of_the_body_is_the_end() -> None:
    assert read_all(reader(end=None), opened(), sse({"text": "a"}), Frame(FrameKind.END, 1)) == [Text("a"), Done()]


def test_without_a_mark_a_body_that_ends_in_an_event_is_broken_off() -> None:
    cut = Frame(FrameKind.CHUNK, 1, b'data: {"text": "b')
    assert read_all(reader(end=None), opened(), cut, Frame(FrameKind.END, 1)) == [BrokenOff()]


def test_the_last_line_of_json_needs_no_newline() -> None:
    body = Frame(FrameKind.CHUNK, 1, b'{"text": "a"}\n{"text": "b", "end": true}')
    findings = read_all(reader(kind="jsonl"), opened(), body, Frame(FrameKind.END, 1))
    assert findings == [Text("a"), Text("b"), Done()]


def test_an_end_as_plain_data() -> None:
    frames = [opened(), sse({"text": "a"}), Frame(FrameKind.CHUNK, 1, b"data: [DONE]\n\n")]
    assert read_all(reader(end=None, end_data="[DONE]"), *frames) == [Text("a"), Done()]


@pytest.mark.parametrize("mark", [{"end": "data.state == 'idle'"}, {"end": None, "end_data": '{"state": "idle"}'}])
def test_the_end_is_the_first_mark_after_another(mark: dict[str, Any]) -> None:
    """Some pages are idle, as they call it, several times: only once the text has begun is it over."""
    idle, text = {"state": "idle"}, {"text": "a"}
    reading = reader(end_after="data.text", **mark)
    assert read_all(reading, opened(), sse(idle, idle, text)) == [Text("a")]
    assert read_all(reading, sse({"text": "b"}, idle, text)) == [Text("b"), Done()]


def test_the_event_that_the_end_comes_after_is_not_the_end() -> None:
    frames = [opened(), sse({"begun": True, "end": True}, {"text": "a"}, {"end": True})]
    assert read_all(reader(end_after="data.begun"), *frames) == [Text("a"), Done()]


def test_a_body_that_ends_before_its_end_counts_is_broken_off() -> None:
    frames = [opened(), sse({"text": "a", "end": True}), Frame(FrameKind.END, 1)]
    assert read_all(reader(end_after="data.begun"), *frames) == [Text("a"), BrokenOff()]


def test_what_follows_the_end_in_the_same_body_is_not_read() -> None:
    assert read_all(reader(), opened(), sse({"text": "a", "end": 1}, {"text": "b"})) == [Text("a"), Done()]


def test_the_sites_error_in_an_event() -> None:
    assert read_all(reader(), opened(), sse({"error": "limit"})) == [Refused(None, "limit")]


def test_the_sites_error_as_a_status() -> None:
    body = Frame(FrameKind.CHUNK, 1, b'{"detail": "limit"}')
    assert read_all(reader(), opened(1, 429), body, Frame(FrameKind.END, 1)) == [Refused(429, '{"detail": "limit"}')]


def test_websocket_frames_with_a_prefix() -> None:
    rules = {"kind": "websocket", "prefix": "42", "text": "data[0] == 't' && data[1].text", "end": "data[0] == 'end'"}
    frames = [b"2", b'42["t", {"text": "a"}]', b'42["other", {"text": "b"}]', b'42["end"]']
    findings = read_all(reader(**rules), *(Frame(FrameKind.EVENT, 3, frame) for frame in frames))
    assert findings == [Text("a"), Done()]


def test_a_websocket_that_closes_in_mid_answer_is_broken_off() -> None:
    frames = [Frame(FrameKind.END, 2), Frame(FrameKind.EVENT, 3, b'{"text": "a"}'), Frame(FrameKind.END, 3)]
    assert read_all(reader(kind="websocket"), *frames) == [Text("a"), BrokenOff()]


def test_events_of_an_event_source_keep_their_names() -> None:
    event = Frame(FrameKind.EVENT, 1, json.dumps({"event": "token", "data": '{"text": "a"}'}).encode())
    assert read_all(reader(text="event == 'token' && data.text"), opened(), event) == [Text("a")]


def test_a_document_that_comes_whole_and_then_as_changes() -> None:
    rules = {"text": None, "document": "data.doc", "changes": "data.diff", "whole": "document.parts[0]"}
    events = [
        {"diff": []},
        {"doc": {"parts": ["a"]}},
        {"diff": [["append", ["parts", 0], "b"]]},
        {"diff": [["add", ["parts", 1], "aside"]]},
        {"diff": [["append", "/parts/0", "c"]]},
        {"doc": {"parts": ["abcd"]}, "end": True},
    ]
    assert read_all(reader(**rules), opened(), sse(*events)) == [Text("a"), Text("b"), Text("c"), Text("d"), Done()]


LITERALS = [
    {"document": 'data.begin && `{"parts": []}`', "changes": "data.changes"},
    {"document": "data.begin && {parts: null}", "changes": 'data.begun && `[["add", "/parts", []]]` || data.changes'},
]


@pytest.mark.parametrize("literal", LITERALS)
def test_a_literal_of_the_file_is_the_same_for_each_answer(literal: dict[str, str]) -> None:
    """The expressions are compiled once for all answers, and with them what stands in them."""
    changes = [{"changes": [["add", "/parts/-", word]]} for word in ("a", "b")]
    frames = [opened(), sse({"begin": 1}, {"begun": 1}, *changes, {"end": True})]
    for _ in range(3):
        reading = reader(text=None, whole="document.parts && join('', document.parts)", **literal)
        assert read_all(reading, *frames) == [Text("a"), Text("b"), Done()]


def test_a_change_that_does_not_fit_is_a_loss() -> None:
    rules = {"text": None, "document": "data.doc", "changes": "data.diff", "whole": "document[0]"}
    assert read_all(reader(**rules), opened(), sse({"doc": ["a"]}, {"diff": [["append", [1], "b"]]})) == [
        Text("a"),
        Lost(),
    ]


def test_events_of_something_else_in_the_same_stream_do_not_count() -> None:
    events = [{"id": 1, "text": "a"}, {"id": 2, "text": "x", "end": True}, {"text": "b"}, {"id": 1, "end": True}]
    assert read_all(reader(same="data.id"), opened(), sse(*events)) == [Text("a"), Text("b"), Done()]


MESSAGES = {"message": "data.id", "whole": "data.all"}


def test_messages_have_a_blank_line_between_them() -> None:
    events = [{"id": "1", "text": "a"}, {"id": "1", "text": "b"}, {"id": "2", "all": ""}, {"id": "2", "all": "c"}]
    assert read_all(reader(**MESSAGES), opened(), sse(*events, {"end": 1})) == [
        Text("a"),
        Text("b"),
        Text("\n\nc"),
        Done(),
    ]


def test_the_whole_of_an_earlier_message_is_checked_too() -> None:
    events = [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}, {"id": "1", "all": "a"}, {"id": "2", "all": "bc"}]
    assert read_all(reader(**MESSAGES), opened(), sse(*events)) == [Text("a"), Text("\n\nb"), Text("c")]


@pytest.mark.parametrize("late", [{"id": "1", "text": "c"}, {"id": "1", "all": "ac"}, {"id": "1", "all": "x"}])
def test_an_earlier_message_that_goes_on_is_a_loss(late: dict[str, str]) -> None:
    findings = read_all(reader(**MESSAGES), opened(), sse({"id": "1", "text": "a"}, {"id": "2", "text": "b"}, late))
    assert findings == [Text("a"), Text("\n\nb"), Lost()]


def test_messages_that_did_not_begin_as_the_answers_do_not_count() -> None:
    rules = {"message": "data.id", "begins": "data.type == 'answer' && data.id"}
    events = [
        {"id": "1", "type": "tool", "text": "x"},
        {"id": "2", "type": "answer", "text": "a"},
        {"id": "1", "text": "x"},
        {"id": "2", "text": "b"},
    ]
    assert read_all(reader(**rules), opened(), sse(*events)) == [Text("a"), Text("b")]


def test_what_comes_after_the_last_element_of_a_kind() -> None:
    rules = {"text": None, "whole": "join('+', after_last(data.all, &by == 'us')[].text)"}
    us, them = {"by": "us", "text": "?"}, [{"by": "them", "text": text} for text in "abc"]
    assert read_all(reader(**rules), opened(), sse({"all": [us, *them]})) == [Text("a+b+c")]
    assert read_all(reader(**rules), opened(), sse({"all": [us, them[0], us, them[1]]})) == [Text("b")]
    assert read_all(reader(**rules), opened(), sse({"all": [them[0], us]}, {"all": None}, {"all": them})) == [
        Text("a+b+c")
    ]


def test_an_expression_that_does_not_fit_an_event_finds_nothing_there() -> None:
    assert read_all(reader(text="join('', data.words)"), opened(), sse({"n": 1}, {"words": ["a"]})) == [Text("a")]


def shown(text: str, kind: FrameKind = FrameKind.DOM_ADD) -> Frame:
    return Frame(kind, 0, text.encode())


def test_the_page_shows_an_answer_bit_by_bit() -> None:
    findings = read_all(DomReader(Transcript()), shown("a"), shown("b"), Frame(FrameKind.DOM_DONE))
    assert findings == [Text("a"), Text("b"), Done()]


def test_text_that_changes_and_changes_back_is_passed_on_once() -> None:
    frames = [shown("ab"), shown("a", FrameKind.DOM_SET), shown("abc", FrameKind.DOM_SET), Frame(FrameKind.DOM_DONE)]
    assert read_all(DomReader(Transcript()), *frames) == [Text("ab"), Progress(), Text("c"), Done()]


def test_text_that_ends_other_than_it_was_passed_on_is_a_loss() -> None:
    frames = [shown("ab"), shown("xb", FrameKind.DOM_SET), Frame(FrameKind.DOM_DONE)]
    assert read_all(DomReader(Transcript()), *frames) == [Text("ab"), Progress(), Lost()]


def test_a_page_that_rewrites_its_text_is_read_once_it_is_complete() -> None:
    frames = [shown("a *b"), shown("a b", FrameKind.DOM_SET), Frame(FrameKind.DOM_DONE)]
    findings = read_all(DomReader(Transcript(), stream=False), *frames)
    assert findings == [Progress(), Progress(), Text("a b"), Done()]


def test_what_comes_from_a_character_on_is_held_back() -> None:
    frames = [shown("ab€c"), shown("ab€X", FrameKind.DOM_SET), Frame(FrameKind.DOM_DONE)]
    findings = read_all(DomReader(Transcript(), hold_from="[€¥]"), *frames)
    assert findings == [Text("ab"), Progress(), Text("€X"), Done()]


def html(text: str) -> Frame:
    return shown(text, FrameKind.DOM_SET)


def test_the_block_of_html_that_is_being_written_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("browser.capture.dom_reader.HTML_REST", 0)
    frames = [html("<p>a</p>"), html("<p>a</p><p><b>b</b></p>"), html("<p>a</p><p><b>bc</b></p>")]
    findings = read_all(DomReader(Transcript(), html=True), *frames, Frame(FrameKind.DOM_DONE))
    assert findings == [Progress(), Text("a"), Progress(), Text("\n\n**bc**"), Done()]


def test_html_is_not_converted_at_every_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("browser.capture.dom_reader.HTML_REST", 1_000_000)
    frames = [html("<p>a</p>"), html("<p>a</p><p>b</p>")]
    assert read_all(DomReader(Transcript(), html=True), *frames) == [Progress(), Progress()]


def test_what_was_passed_on_before_is_not_passed_on_again() -> None:
    assert read_all(DomReader(Transcript("ab")), shown("abc")) == [Text("c")]


@pytest.mark.parametrize("kind", [FrameKind.CHUNK, FrameKind.OPEN, FrameKind.END, FrameKind.EVENT])
def test_the_dom_reader_takes_no_traffic(kind: FrameKind) -> None:
    assert DomReader(Transcript()).read(Frame(kind, 1, b'{"status": 200}')) == []


@settings(deadline=None)  # the machine may be busy
@given(st.text(st.characters(codec="utf-8")), st.data(), st.booleans())
def test_text_cut_at_any_utf_16_unit_comes_back_whole(text: str, data: st.DataObject, as_whole: bool) -> None:
    units = text.encode("utf-16-le")
    cuts = [*sorted(data.draw(st.sets(st.integers(0, len(units) // 2)))), len(units) // 2]
    starts = [0] * len(cuts) if as_whole else [0, *cuts[:-1]]
    parts = [units[a * 2 : b * 2].decode("utf-16-le", "surrogatepass") for a, b in zip(starts, cuts, strict=True)]
    changes = {"text": None, "whole": "data.text"} if as_whole else {}
    found = read_all(reader(**changes), opened(), sse(*({"text": part} for part in parts)))
    texts = [finding.text for finding in found if isinstance(finding, Text)]
    assert len(texts) == len(found)
    assert "".join(texts) == text
    assert all(part.encode() for part in texts)  # raises at a lone half


def test_a_half_that_stays_alone_is_replaced() -> None:
    frames = [opened(), sse({"text": "a\ud83d"}, {"text": "b\ude00"}, {"text": "\ud83d"}, {"end": True})]
    assert read_all(reader(), *frames) == [Text("a"), Text("\ufffdb\ufffd"), Done()]


@pytest.mark.parametrize("depth", [900, 5_000, 100_000])
def test_an_event_that_is_nested_too_deeply_is_passed_over(depth: int) -> None:
    deep = f'data: {{"text": {"[" * depth}{"]" * depth}}}\n\n'.encode()
    frames = [opened(), sse({"text": "a"}), Frame(FrameKind.CHUNK, 1, deep), sse({"text": "b"}, {"end": True})]
    assert read_all(reader(), *frames) == [Text("a"), Text("b"), Done()]


NOTHING_SHOWN: ShownAnswer = {
    "text": None,
    "done": False,
    "busy": False,
    "loading": False,
    "error": None,
    "reasoning": None,
}


def test_half_a_surrogate_pair_in_what_a_page_shows_is_replaced() -> None:
    looks = AnswerChanges({})
    half = "half \ud83d, and at the end \ud83d"
    frames = looks.frames({**NOTHING_SHOWN, "text": half, "error": half, "done": True, "reasoning": half}, 0.0)
    assert {(frame.kind, frame.text) for frame in frames} >= {
        (FrameKind.DOM_ERROR, "half \ufffd, and at the end "),
        (FrameKind.DOM_SET, "half \ufffd, and at the end "),
        (FrameKind.DOM_REASONING, "half \ufffd, and at the end "),
    }


def test_reasoning_is_apart_from_the_answer_in_parts_and_whole() -> None:
    frames = (opened(), sse({"think": "a"}, {"text": "b", "think": "c"}, {"text": "d"}, {"end": True}))
    found = [Reasoning("a"), Reasoning("c"), Text("b"), Text("d"), Done()]
    assert read_all(reader(reasoning="data.think"), *frames) == found
    frames = (opened(), sse({"all": "a"}, {"all": "abc"}, {"text": "d"}, {"all": "x"}, {"text": "e", "end": True}))
    found = [Reasoning("a"), Reasoning("bc"), Text("d"), Text("e"), Done()]
    assert read_all(reader(reasoning_whole="data.all"), *frames) == found, "what contradicts itself ends no answer"


def test_reasoning_that_the_page_shows_is_apart_too() -> None:
    dom = DomReader(Transcript())
    shown = [(FrameKind.DOM_REASONING, "So"), (FrameKind.DOM_REASONING, "So it"), (FrameKind.DOM_REASONING, "No")]
    found = [dom.read(Frame(kind, 0, text.encode())) for kind, text in shown]
    assert found == [[Reasoning("So")], [Reasoning(" it")], [Progress()]]
    assert dom.read(Frame(FrameKind.DOM_SET, 0, b"It rains")) == [Text("It rains")]

"""Which line of a site file the check blames, by the trace of the reader that reads answers.

The answers were recorded from the apps of tests/sites (Gradio 6.31, Chainlit 2.12): the frames that the hook sent.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from browser.capture.findings import Done, Finding, Lost, Refused, Text, Transcript
from browser.capture.frames import Frame, FrameKind
from browser.capture.network_reader import NetworkReader
from browser.capture.trace import EventTrace
from browser.check import diagnosis
from browser.check.diagnosis import Diagnosis
from browser.check.event_log import EventLog
from browser.check.plain_text import plain
from browser.site.load import SITES_DIR, parse_site
from browser.site.schema import Network

RECORDED = Path(__file__).with_name("recorded")


def frames(name: str) -> list[Frame]:
    """The frames of an answer in tests/browser/recorded."""
    rows = [json.loads(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]
    return [Frame(FrameKind[row["kind"]], row["stream"], row["text"].encode()) for row in rows]


def shipped(site: str, **changes: str) -> Network:
    """The site file's table capture.network, with other expressions."""
    network = parse_site((SITES_DIR / f"{site}.toml").read_text(), site).capture.network
    assert network
    return Network.model_validate(network.model_dump() | changes)


def read(network: Network, given: list[Frame]) -> tuple[EventLog, list[Finding]]:
    """Read frames as an answer is read: up to what ends it."""
    log = EventLog()
    reader = NetworkReader(network, Transcript(), log)
    findings: list[Finding] = []
    for frame in given:
        log.frame(frame)
        findings += reader.read(frame)
        if any(isinstance(finding, (Done, Lost, Refused)) for finding in findings):
            break
    return log, findings


def diagnose(network: Network, given: list[Frame], *, error_shown: bool = False) -> Diagnosis:
    """Diagnose as the check's steps do."""
    log, findings = read(network, given)
    if Lost() in findings:
        return diagnosis.of_fallback(network, log.events)
    if Done() in findings and any(isinstance(finding, Text) for finding in findings):
        return diagnosis.of_success(network, log.events)
    return diagnosis.of_failure(network, log.events, error_shown=error_shown)


@pytest.mark.parametrize("site", ["gradio", "chainlit"])
def test_a_shipped_file_is_not_blamed(site: str) -> None:
    log, findings = read(shipped(site), frames(f"{site}-answer"))
    assert Done() in findings
    text = "".join(finding.text for finding in findings if isinstance(finding, Text))
    assert text.startswith("sha256=")
    assert not diagnosis.of_success(shipped(site), log.events)


GRADIO = [
    ({"document": "data.output.datas[1]"}, ["document"]),
    ({"document": "data.output.data[0][0].role && data.output.data[0]"}, ["document"]),
    ({"changes": "data.msg == 'process_generates' && data.output.data[1]"}, ["changes"]),
    ({"changes": "data.msg == 'process_generating' && data.output.data"}, ["changes", "document"]),
    ({"whole": "document && join(' ', document[?role == 'bot'].content[].text)"}, ["whole"]),
    ({"whole": "document[?role == 'assistant']"}, ["whole"]),
    ({"same": "data.msg"}, ["same"]),
    ({"same": "data.event"}, ["same"]),
    ({"end": "data.msg == 'process_complete'"}, ["end"]),
    ({"end": "data.msg == 'estimation'"}, ["end", "document"]),
    ({"error": "data.success && 'error'"}, ["error"]),
]
CHAINLIT = [
    ({"prefix": "43"}, ["prefix"]),
    ({"start": "data[0] == 'task_begin'"}, ["start"]),
    ({"text": "data[0] == 'token' && data[1].token"}, ["text"]),
    ({"text": "data[0] == 'stream_token' && data[1].id"}, ["whole", "text", "message"]),
    ({"message": "data[1].messageId"}, ["message"]),
    ({"message": "data[0]"}, ["message", "begins"]),
    ({"begins": "data[0] == 'stream_begin' && data[1].id"}, ["begins"]),
    ({"whole": "data[0] == 'final' && data[1].output"}, ["whole"]),
    ({"end": "data[0] == 'task_over'"}, ["end"]),
]


@pytest.mark.parametrize(
    ("site", "change", "keys"), [*(("gradio", *row) for row in GRADIO), *(("chainlit", *row) for row in CHAINLIT)]
)
def test_the_wrong_key_is_the_first_to_be_named(site: str, change: dict[str, str], keys: list[str]) -> None:
    found = diagnose(shipped(site, **change), frames(f"{site}-answer"))
    assert found.keys == tuple(f"capture.network.{key}" for key in keys)
    assert found.hints


@pytest.mark.parametrize("site", ["gradio", "chainlit"])
def test_an_error_that_only_the_page_shows(site: str) -> None:
    found = diagnose(shipped(site, error="data.oops"), frames(f"{site}-error"), error_shown=True)
    assert found.keys == ("capture.network.error",)
    assert not diagnose(shipped(site), frames(f"{site}-error"), error_shown=True).keys[1:]


def network(**rules: Any) -> Network:
    return Network.model_validate({"kind": "sse", "url": "*", "text": "data.x"} | rules)


def rows(log: EventLog) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.as_jsonl().splitlines()]


@pytest.mark.parametrize(
    "frame",
    [b"\x82\xa4type\xa5token\xa1t\xa3so ", b"\n\x05token\x12\x03so ", b"\x1f\x8b\x08\x00\x00\x00\x00\x00"],
    ids=["msgpack", "protobuf", "gzip"],
)
def test_binary_frames_are_told_and_what_reads_them(frame: bytes) -> None:
    network = Network(kind="websocket", url="*/ws", text="data.t", end="data.end")
    why = diagnose(network, [Frame(FrameKind.EVENT, 1, frame)] * 3)
    assert why.hints[0] == "3 of 3 frames are binary; if they are MessagePack, kind = 'msgpack' reads them"
    assert "protobuf, cannot be read" in why.hints[1]
    assert why.keys == ("capture.network.kind",)


def test_binary_frames_that_are_no_messagepack_are_said_to_be_none() -> None:
    rules = Network(kind="msgpack", url="*/ws", text="data.t", end="data.end")
    why = diagnose(rules, [Frame(FrameKind.EVENT, 1, b"\n\x05token\x12\x03so ")] * 3)
    assert why.hints[0] == "3 of 3 frames are binary, and no MessagePack, which kind = 'msgpack' reads"
    why = diagnose(rules, [Frame(FrameKind.EVENT, 1, b"\x82\xa4type\xa5token\xa1t\xc0")] * 3)
    assert why.keys == ("capture.network.text",)


@pytest.mark.parametrize("end", [b"\x1e", b"\x00", b""])
def test_text_frames_with_an_end_of_record_are_not_binary(end: bytes) -> None:
    network = Network(kind="websocket", url="*/ws", text="data.t", end="data.end")
    why = diagnose(network, [Frame(FrameKind.EVENT, 1, '{"x": "東京 👩‍🚀"}'.encode() + end)] * 3)
    assert why.keys == ("capture.network.text",)


def test_events_are_kept_with_what_the_reader_found() -> None:
    rules = {"kind": "websocket", "prefix": "42", "text": "data[1]", "end": "data[0] == 'end'"}
    given = [Frame(FrameKind.EVENT, 1, text.encode()) for text in ('42["token", "a"]', "3", '42["end"]')]
    log, _ = read(network(**rules), given)
    assert [(row["kind"], row["found"], row.get("skipped")) for row in rows(log)] == [
        ("event", {"text": "a"}, None),
        ("event", {}, "prefix"),
        ("event", {"end": True}, None),
    ]


def test_the_last_line_of_a_body_is_kept_and_so_is_a_body_that_is_not_the_answers() -> None:
    given = [
        Frame(FrameKind.OPEN, 1, b'{"status":200}'),
        Frame(FrameKind.CHUNK, 1, b'{"x": "a"}\n{"x": '),
        Frame(FrameKind.CHUNK, 2, b"something else"),
        Frame(FrameKind.CHUNK, 1, b'"b"}'),
        Frame(FrameKind.END, 1),
    ]
    log, _ = read(network(kind="jsonl"), given)
    assert [event.found for event in log.events] == [{"text": "a"}, {"text": "b"}]
    assert [(row["text"], row["unread"]) for row in rows(log) if "unread" in row] == [
        ("something else", "other_stream")
    ]


def test_the_body_of_an_http_error_is_kept() -> None:
    given = [Frame(FrameKind.OPEN, 1, b'{"status":429}'), Frame(FrameKind.CHUNK, 1, b"slow down")]
    log, _ = read(network(), [*given, Frame(FrameKind.END, 1)])
    assert [(row["kind"], row["text"]) for row in rows(log)] == [
        ("open", '{"status":429}'),
        ("chunk", "slow down"),
        ("end", ""),
    ]
    assert not log.events


def test_a_later_change_to_the_document_is_not_in_the_events_before_it() -> None:
    """A literal, too, is the same object at each look: what is changed is a copy of it."""
    rules = {"text": None, "document": 'data.new && `[""]`', "changes": "data.diff", "whole": "document[0]"}
    body = b'data: {"new": 1}\n\ndata: {"diff": [["append", [0], "a"]]}\n\n'
    given = [Frame(FrameKind.OPEN, 1, b'{"status":200}'), Frame(FrameKind.CHUNK, 1, body * 2)]
    log, findings = read(network(**rules), given)
    assert [event.found["document"] for event in log.events if "document" in event.found] == [[""], [""]]
    assert findings == [Text("a")]


def test_json_of_any_depth_is_noted_and_shown() -> None:
    """What json reads at one depth of calls it may not write at another."""
    network = Network.model_validate(
        {"kind": "sse", "url": "*", "text": "data.text", "error": "data", "end": "data.end"}
    )
    for depth in range(1, sys.getrecursionlimit(), 3):
        body = f"data: {'[' * depth}1{']' * depth}\n\n".encode()
        given = [Frame(FrameKind.OPEN, 1, b'{"status":200}'), Frame(FrameKind.CHUNK, 1, body)]
        log, findings = read(network, given)
        assert isinstance(findings[-1], Refused)
        assert log.as_jsonl().count(b"\n") == 2
    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit()):
        deep = [deep]
    assert plain(deep) == "JSON that is nested too deep"
    log.event(EventTrace(1, None, deep))
    assert b"nested too deep" in log.as_jsonl()

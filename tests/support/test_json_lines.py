"""A file of lines is read while another process appends to it."""

from __future__ import annotations

from pathlib import Path

from tests.support.json_lines import json_lines, whole_lines


def test_a_last_line_counts_once_it_has_its_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    assert json_lines(path) == []
    whole, cut = '{"text": "für"}\n'.encode(), '{"text": "ü"}\n'.encode()
    for end in range(len(cut)):  # wherever the writer has come to, also within a character
        path.write_bytes(whole + cut[:end])
        assert json_lines(path) == [{"text": "für"}]
    path.write_bytes(whole + cut)
    assert json_lines(path) == [{"text": "für"}, {"text": "ü"}]


def test_other_text_is_no_object_and_a_position_may_lie_within_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('Traceback\n{"at": 1}\n{"at": 2}\n')
    assert whole_lines(path) == ["Traceback", '{"at": 1}', '{"at": 2}']
    assert json_lines(path, since_bytes=len('Traceback\n{"a')) == [{"at": 2}]

"""The run folder: what a child writes is what its parent reads, however damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import run_folder
from contract.processes import ProcessIdentity
from contract.run_folder import (
    PROCESSES,
    SUBMITTED,
    mark_submitted,
    read_processes,
    read_submitted,
    submission_id,
    unmark_submitted,
    write_processes,
)


def test_submitted_ids_are_read_back(tmp_path: Path) -> None:
    assert read_submitted(tmp_path) is None, "the file is there from the start, and may have been taken away"
    mark_submitted(tmp_path, "r-1")
    mark_submitted(tmp_path, "r-2")
    assert read_submitted(tmp_path) == frozenset({"r-1", "r-2"})


def test_a_mark_can_be_taken_back_and_made_again(tmp_path: Path) -> None:
    for request_id in ("r-1", "r-2"):
        mark_submitted(tmp_path, request_id)
    unmark_submitted(tmp_path, "r-1")
    assert read_submitted(tmp_path) == frozenset({"r-2"})
    mark_submitted(tmp_path, "r-1")
    assert read_submitted(tmp_path) == frozenset({"r-1", "r-2"})


def test_submitted_ids_that_cannot_be_read_are_not_known(tmp_path: Path) -> None:
    (tmp_path / SUBMITTED).mkdir()
    assert read_submitted(tmp_path) is None


def test_a_cut_last_id_may_be_that_of_any_request(tmp_path: Path) -> None:
    (tmp_path / SUBMITTED).write_bytes(b"r-1\nr-")
    assert read_submitted(tmp_path) is None


def test_a_binary_list_of_ids_is_still_read(tmp_path: Path) -> None:
    (tmp_path / SUBMITTED).write_bytes(b"r-1\n\xff\xfe\nr-2\n")
    found = read_submitted(tmp_path)
    assert found is not None
    assert {"r-1", "r-2"} <= found


def test_processes_are_read_back(tmp_path: Path) -> None:
    assert read_processes(tmp_path) == {}
    noted: dict[run_folder.Role, ProcessIdentity] = {
        "driver": ProcessIdentity(20, 300),
        "browser": ProcessIdentity(21, 301),
    }
    write_processes(tmp_path, noted)
    assert read_processes(tmp_path) == noted
    assert (tmp_path / PROCESSES).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        '{"driver": 7}',
        '{"driver": {"pid": 20}}',
        '{"driver": {"pid": "x", "start_time": 1}}',
        '{"driver": {"pid": 1, "start_time": 1}}',
        '{"driver": {"pid": 0, "start_time": 1}}',
        '{"driver": {"pid": -5, "start_time": 1}}',
        '{"driver": {"pid": 1e999, "start_time": 1}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_note_is_no_process_to_kill(tmp_path: Path, content: str) -> None:
    (tmp_path / PROCESSES).write_text(content)
    assert read_processes(tmp_path) == {}


def test_what_is_sound_in_a_damaged_note_is_read(tmp_path: Path) -> None:
    (tmp_path / PROCESSES).write_text('{"driver": null, "browser": {"pgid": 21, "start_time": 301}}')
    assert read_processes(tmp_path) == {"browser": ProcessIdentity(21, 301)}


@given(st.binary())
def test_any_bytes_are_read_without_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in (PROCESSES, SUBMITTED):
        (folder / name).write_bytes(content)
    assert all(found.pid > 1 for found in read_processes(folder).values())
    assert (read_submitted(folder) is None) == (content != b"" and not content.endswith(b"\n"))


def test_a_prompt_that_follows_is_taken_back_alone(tmp_path: Path) -> None:
    assert submission_id("r-1", 1) == "r-1"
    for number in (1, 2):
        mark_submitted(tmp_path, submission_id("r-1", number))
    assert read_submitted(tmp_path) == frozenset({"r-1", "r-1#2"})
    unmark_submitted(tmp_path, submission_id("r-1", 2))
    assert read_submitted(tmp_path) == frozenset({"r-1"})

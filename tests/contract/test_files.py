"""Files that only their owner reads, whole or not there at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from contract.files import append_line, create_private, write_private


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_is_replaced_and_private(tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert (path.read_bytes(), mode(path), names(tmp_path)) == (b"new", 0o600, ["session.json"])


def test_a_write_that_fails_leaves_what_there_was(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_private(tmp_path / "folder", b"new")
    with pytest.raises(FileNotFoundError):
        write_private(tmp_path / "missing" / "file", b"new")
    assert names(tmp_path) == ["folder"]


def test_a_new_file_never_replaces_one(tmp_path: Path) -> None:
    path = tmp_path / "ada.json"
    create_private(path, b"first")
    with pytest.raises(FileExistsError):
        create_private(path, b"second")
    assert (path.read_bytes(), mode(path), names(tmp_path)) == (b"first", 0o600, ["ada.json"])


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "submitted"
    for line in ("a", "b"):
        append_line(path, line)
    assert (path.read_text(), mode(path)) == ("a\nb\n", 0o600)


def test_a_line_without_room_is_refused_and_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "submitted", os.write
    append_line(path, "first")
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        with pytest.raises(OSError, match="No space left") as refused:
            append_line(path, "second")
    assert refused.value.errno == errno.ENOSPC
    append_line(path, "third")
    assert path.read_text() == "first\nthird\n"


def test_a_part_that_was_left_does_not_swallow_the_next_line(tmp_path: Path) -> None:
    path = tmp_path / "submitted"
    path.write_text("first\nsec")
    append_line(path, "third")
    assert path.read_text() == "first\nsec\nthird\n"

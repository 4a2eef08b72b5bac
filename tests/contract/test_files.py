"""Files that only their owner reads, whole or not there at all."""

from __future__ import annotations

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

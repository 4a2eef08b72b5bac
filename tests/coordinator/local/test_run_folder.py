from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from contract.processes import ProcessIdentity
from contract.run_folder import read_processes
from coordinator.errors import RunFolderError
from coordinator.local.run_folder import RunFolder, delete
from coordinator.local.run_root import PREFIX, RunRoot


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def child_folder(root: RunRoot, name: str = "a") -> RunFolder:
    folder = root.folder(name)
    folder.prepare()
    return folder


def test_run_folders_are_private_and_do_not_contain_profile_names(tmp_path: Path) -> None:
    root = RunRoot(tmp_path)
    folder = child_folder(root, "../../ada@example.org")
    assert [mode(path) for path in (root.path, folder.path, folder.tmp)] == [0o700] * 3
    assert folder.path.is_relative_to(root.path)
    assert "ada" not in str(folder.path)
    assert root.folder("../../ada@example.org") is folder
    assert root.folder("b").path != folder.path
    root.remove()


def test_only_the_session_and_the_count_of_logins_are_kept_between_two_starts(tmp_path: Path) -> None:
    root = RunRoot(tmp_path)
    folder = child_folder(root)
    for name in ("session.json", "logins.json", "submitted", "processes.json", "tmp/leftover"):
        (folder.path / name).write_text("{}")
    rubbish = folder.empty()
    assert rubbish is not None
    assert sorted(entry.name for entry in folder.path.iterdir()) == ["logins.json", "session.json"]
    assert (rubbish / "tmp" / "leftover").exists()
    delete(rubbish)
    assert not rubbish.exists()
    folder.prepare()
    assert list(folder.tmp.iterdir()) == []
    root.remove()


def test_the_socket_path_of_a_host_is_no_longer_than_that_of_a_child(tmp_path: Path) -> None:
    root = RunRoot(tmp_path)
    assert not (root.path / "hosts").exists()
    folder = root.host_folder(9999)
    folder.prepare()
    assert mode(folder.tmp) == 0o700
    assert len(str(folder.tmp)) <= len(str(root.path / "children" / "9999" / "tmp"))
    rubbish = folder.discard()
    assert rubbish is not None
    assert not folder.path.exists()
    root.remove()


def test_forgetting_a_child_removes_its_folder(tmp_path: Path) -> None:
    root = RunRoot(tmp_path)
    folder = child_folder(root)
    (folder.path / "session.json").write_text("{}")
    rubbish = root.forget("a")
    assert rubbish is not None
    assert not folder.path.exists()
    assert root.forget("a") is None
    assert not (child_folder(root).path / "session.json").exists()
    root.remove()


def test_removing_the_root_leaves_nothing(tmp_path: Path) -> None:
    root = RunRoot(tmp_path)
    child_folder(root)
    root.remove()
    root.remove()
    assert list(tmp_path.iterdir()) == []


def test_submitted_ids_are_read(tmp_path: Path) -> None:
    root = RunRoot(tmp_path)
    folder = child_folder(root)
    assert folder.submitted() == frozenset()
    (folder.path / "submitted").write_text("one\ntwo\n")
    assert folder.submitted() == frozenset({"one", "two"})
    (folder.path / "submitted").unlink()
    (folder.path / "submitted").mkdir()
    assert folder.submitted() is None
    root.remove()


@pytest.mark.parametrize(
    ("text", "driver", "browser"),
    [
        ('{"driver": {"pid": 7, "start_time": 9}}', ProcessIdentity(7, 9), None),
        (
            '{"driver": {"pid": 7, "start_time": 9}, "browser": {"pgid": 8, "start_time": 10}}',
            ProcessIdentity(7, 9),
            ProcessIdentity(8, 10),
        ),
        ('{"browser": {"pgid": 1, "start_time": 10}}', None, None),
        ('{"browser": {"pgid": -1, "start_time": 10}}', None, None),
        ('{"browser": {"pgid": 0, "start_time": 10}}', None, None),
        ('{"browser": {"pgid": "x", "start_time": 10}}', None, None),
        ('{"browser": [8, 10]}', None, None),
        ('{"browser": {"pgid": 8}}', None, None),
        ("[]", None, None),
        ('{"dri', None, None),
    ],
)
def test_damaged_records_of_processes_are_ignored(
    tmp_path: Path, text: str, driver: ProcessIdentity | None, browser: ProcessIdentity | None
) -> None:
    root = RunRoot(tmp_path)
    folder = child_folder(root)
    (folder.path / "processes.json").write_text(text)
    read = read_processes(folder.path)
    assert (read.get("driver"), read.get("browser")) == (driver, browser)
    root.remove()


def test_only_abandoned_roots_are_swept(tmp_path: Path) -> None:
    held = RunRoot(tmp_path)
    abandoned = tmp_path / f"{PREFIX}abandoned"
    (abandoned / "children" / "1").mkdir(parents=True)
    (abandoned / "lock").touch()
    in_the_making = tmp_path / f"{PREFIX}young"
    in_the_making.mkdir()
    half_made = tmp_path / f"{PREFIX}old"
    half_made.mkdir()
    os.utime(half_made, (0, 0))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    fresh = RunRoot(tmp_path)
    assert held.path.exists()
    assert in_the_making.exists()
    assert elsewhere.exists()
    assert not abandoned.exists()
    assert not half_made.exists()
    held.remove()
    fresh.remove()


def test_a_root_that_cannot_be_made_is_explained_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"^Cannot make a folder .* \(No such file or directory\); make it"):
        RunRoot(tmp_path / "missing")


def test_a_tmpdir_too_long_for_unix_sockets_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    root = RunRoot()
    try:
        assert not list(deep.iterdir())
        socket_path = root.folder("a").tmp / "org.chromium.Chromium.abcdef" / "SingletonSocket"
        assert len(str(socket_path)) <= 107
    finally:
        root.remove()


def test_a_folder_that_a_cleaner_took_is_told(tmp_path: Path) -> None:
    root = RunRoot(tmp_path)
    folder = child_folder(root)
    assert folder.exists()
    folder.tmp.rmdir()
    assert not folder.exists()
    folder.prepare()
    assert folder.exists()
    delete(root.path)
    assert not folder.exists()
    root.remove()

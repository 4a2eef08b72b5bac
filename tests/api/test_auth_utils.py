"""The API keys of a child: which file counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from api_utils import auth_utils
from contract.keys import KeyFileError


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_given_path_comes_before_the_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KEY_FILE_PATH", raising=False)
    assert not auth_utils.load_api_keys()
    (tmp_path / "auth_profiles").mkdir()
    write(tmp_path / "auth_profiles/key.txt", b"default\n")
    assert auth_utils.initialize_keys().current().verify("default")
    monkeypatch.setenv("KEY_FILE_PATH", str(write(tmp_path / "given.txt", b"given\n")))
    assert auth_utils.initialize_keys().current().verify("given")
    assert auth_utils.verify_api_key("given")
    assert not auth_utils.verify_api_key("default")


def test_a_failed_load_keeps_the_keys_there_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_FILE_PATH", str(write(tmp_path / "given.txt", b"given\n")))
    auth_utils.initialize_keys()
    monkeypatch.setenv("KEY_FILE_PATH", str(tmp_path / "gone.txt"))
    with pytest.raises(KeyFileError):
        auth_utils.initialize_keys()
    assert auth_utils.verify_api_key("given")
    assert not auth_utils.verify_api_key("other")

"""The entry point of the production image: what it makes of the operator's files before the coordinator starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ENTRY_POINT = Path(__file__).resolve().parent.parent / "docker" / "entrypoint.prod.sh"
SECRET = "wJalr/XUtn+FEMI=K7%40"


def start(folder: Path, content: bytes) -> subprocess.CompletedProcess[str]:
    """Start it with one secret in a file; in Python's place a program prints that secret and ends the start."""
    python = folder / "python"
    python.write_text('#!/bin/sh\nprintf "<%s>" "$AWS_SECRET_ACCESS_KEY" >&2\nexit 3\n')
    python.chmod(0o755)
    file = folder / "secret"
    file.write_bytes(content)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "AWS_SECRET_ACCESS_KEY_FILE": str(file)}
    return subprocess.run([ENTRY_POINT], env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r\n\r\n"])
def test_a_secret_has_no_byte_order_mark_and_no_line_end(tmp_path: Path, mark: bytes, end: bytes) -> None:
    done = start(tmp_path, mark + SECRET.encode() + end)
    assert (done.returncode, done.stderr) == (3, f"<{SECRET}>")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (SECRET.encode("utf-16"), "is not plain text; save it as UTF-8"),
        (f"{SECRET}\n{SECRET}\n".encode(), "holds more than one line"),
        (b"\xef\xbb\xbf\r\n", "is empty"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused_without_being_shown(tmp_path: Path, content: bytes, says: str) -> None:
    done = start(tmp_path, content)
    assert done.returncode == 2
    assert done.stderr.startswith(f"entrypoint: AWS_SECRET_ACCESS_KEY_FILE: {tmp_path}/secret ")
    assert says in done.stderr
    assert SECRET not in done.stderr

"""Files that only their owner may read, replaced in one step."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Put data in place of the file's content, mode 0600; a crash leaves the old content or the new. Raises OSError."""
    written = _write_beside(path, data)
    try:
        written.replace(path)
    except BaseException:
        written.unlink()
        raise


def create_private(path: Path, data: bytes) -> None:
    """Make a new file, mode 0600, that has all of its content as soon as it is there.

    Raises FileExistsError if there is one by now, else OSError.
    """
    written = _write_beside(path, data)
    try:
        os.link(written, path)
    finally:
        written.unlink()


def _write_beside(path: Path, data: bytes) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


def append_line(path: Path, line: str) -> None:
    """Append a line and see it through to the disk, so that it outlives this process. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

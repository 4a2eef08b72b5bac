"""The home folder; files read within bounds; files that only their owner may read, replaced in one step."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from contract.errors import TabfleetError


class HomeMissing(TabfleetError):
    """There is no home folder; the message says what to set."""


class NotRegular(TabfleetError):
    """What has the file's name is no regular file."""


def read_regular(path: Path, most_bytes: int) -> tuple[bytes, int]:
    """Return a regular file's first most_bytes + 1 bytes, by which a larger one is told, and its mode.

    Raises NotRegular, OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a named pipe would wait for ever
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NotRegular("is not a regular file")
        return file.read(most_bytes + 1), mode


def home() -> Path:
    """Return this user's home folder, which need not be there. Raises HomeMissing if nothing says where it is."""
    try:
        return Path.home()
    except RuntimeError:
        raise HomeMissing(
            f"HOME is not set, and uid {os.getuid()} is not in the password database;"
            " set HOME to a folder that this uid may write"
        ) from None


def write_private(path: Path, data: bytes, *, confirm: Callable[[], object] = lambda: None) -> None:
    """Put data in place of the file's content, mode 0600; a crash leaves the old content or the new. Raises OSError.

    `confirm` is called when all of it is on the disk, immediately before it takes effect; what it raises prevents that.
    """
    written = _write_beside(path, data)
    try:
        confirm()
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
    """Append a line and see it through to the disk, so that it outlives this process.

    Raises OSError, ENOSPC also if only a part of it found room; that part is taken back.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        data = f"{line}\n".encode()
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data  # a part that could not be taken back must not swallow this line
        if os.write(descriptor, data) != len(data):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

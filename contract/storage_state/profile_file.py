"""Reading a profile's file: what is no readable, regular file of a sensible size is refused with its reason."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from contract.errors import BadProfile
from contract.storage_state.document import MAX_PROFILE_BYTES


def read_profile_file(path: Path, *, within: Path = Path("/")) -> bytes:
    """Return the bytes of a profile's file, or a few too many of one that is too large. Raises BadProfile.

    Links are followed, but only to files in `within`, a resolved folder.
    """
    try:
        # Path.resolve makes a RuntimeError of ELOOP up to Python 3.12; this is an OSError everywhere.
        real = Path(os.path.realpath(path, strict=True))
        if not real.is_relative_to(within):
            raise BadProfile("is a link that leads out of the folder")
        # Non-blocking: opening a named pipe would wait for its writer for ever.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return _read(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadProfile(_why_unreadable(path, error)) from None


def _read(descriptor: int) -> bytes:
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(kind):
        raise BadProfile("is a folder")
    if not stat.S_ISREG(kind):
        raise BadProfile("is not a regular file")
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(MAX_PROFILE_BYTES + 1)


def _why_unreadable(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
    if isinstance(error, PermissionError):
        me = os.geteuid()
        try:
            status = path.stat()
        except OSError:
            return f"cannot be reached by uid {me}; check the folders on the way"
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        return f"cannot be read by uid {me}: it belongs to uid {status.st_uid}, mode {mode}; chown it to {me}"
    if error.errno == errno.ELOOP:
        return "is a link that leads to itself"
    return f"cannot be read: {error.strerror or type(error).__name__}"

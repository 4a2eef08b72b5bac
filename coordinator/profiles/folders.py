"""Private folders: made or taken over only when nobody else can have a hand in them."""

from __future__ import annotations

import os
import stat
from collections.abc import Container
from pathlib import Path

from coordinator.profiles.errors import CacheError

MOST_LINKS = 40  # as the kernel


def private_folder(path: Path, contents: Container[str]) -> Path:
    """Make the folder, or check the one that is there, and return it without links on the way.

    It then belongs to us, has mode 0700, holds nothing but `contents`, and no link on the way to it was
    made by anybody else but root. Raises CacheError.
    """
    real = follow_trusted(path.absolute())
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        real.mkdir(mode=0o700)
    except FileExistsError:
        _take_over(real, contents)
    except OSError as error:
        raise CacheError(f"the folder {path} cannot be made by uid {os.geteuid()}: {error.strerror}") from None
    return real


def follow_trusted(path: Path) -> Path:
    """Resolve an absolute path like the kernel, but only through links of our own and of root.

    Parts that do not exist are kept. Raises CacheError.
    """
    done, todo, links = Path("/"), list(path.parts[1:]), 0
    while todo:
        step = done / todo.pop(0)
        target = _link_target(step)
        if target is None:
            done = step.parent.parent if step.name == ".." else step
            continue
        links += 1
        if links > MOST_LINKS:
            raise CacheError(f"the folder {path} is reached by too many links")
        todo[:0] = target.parts[1:] if target.is_absolute() else target.parts
        done = Path("/") if target.is_absolute() else step.parent
    return done


def _link_target(path: Path) -> Path | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CacheError(f"{path} cannot be reached by uid {os.geteuid()}: {error.strerror}") from None
    if not stat.S_ISLNK(status.st_mode):
        return None
    if status.st_uid not in {0, os.geteuid()}:
        raise CacheError(f"{path} is a link that belongs to uid {status.st_uid}; it is not followed")
    return path.readlink()


def _take_over(folder: Path, contents: Container[str]) -> None:
    # Everything goes by one descriptor, so that the folder cannot be exchanged between the look and the chmod.
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError:
        raise CacheError(f"{folder} is not a folder") from None
    except OSError as error:
        raise CacheError(f"{folder} cannot be opened by uid {os.geteuid()}: {error.strerror}") from None
    try:
        owner = os.fstat(descriptor).st_uid
        if owner != os.geteuid():
            raise CacheError(
                f"the folder {folder} belongs to uid {owner}, not to uid {os.geteuid()}; name one in it"
                " that does not exist yet, or another place"
            )
        names = sorted(os.listdir(descriptor))  # noqa: PTH208 - of the descriptor
        foreign = next((name for name in names if name not in contents), None)
        if foreign is not None:
            raise CacheError(
                f"the folder {folder} holds other things ({foreign}); name one that is empty or not there yet"
            )
        os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def write_private(path: Path | str, data: bytes) -> None:
    """Write a new file that only we can read. Raises OSError, also when the path exists in any form."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        # Without a file object, which asks the kernel four things more for each of a thousand files.
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)

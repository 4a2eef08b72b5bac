"""Run folders: the private place of each child, which is also its TMPDIR.

ROOT/               0700, new for every coordinator, with a lock that its coordinator holds
  lock
  children/N/       one per child name, kept over its restarts
    session.json    the rotated login, kept too
    processes.json  driver and browser group: {"driver": {"pid", "start_time"}, "browser": {"pgid", ...}}
    submitted       one request id a line
    tmp/
  trash/            what is being deleted
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from coordinator.errors import RunFolderError
from coordinator.local import leftovers

PREFIX: Final = "tabfleet-run-"
_KEPT: Final = "session.json"
_YOUNG_S: Final = 60.0
_SOCKET_IN_TMPDIR: Final = "/org.chromium.Chromium.XXXXXX/SingletonSocket"
_MAX_PARENT_BYTES: Final = 107 - len(f"/{PREFIX}XXXXXXXX/children/9999/tmp{_SOCKET_IN_TMPDIR}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Recorded:
    """A process or group that a child wrote down: its id, and its (leader's) start time in clock ticks."""

    id: int
    start_time: int


class RunFolder:
    """The folder of one child."""

    def __init__(self, path: Path, trash: Path) -> None:
        self.path = path
        self._trash = trash

    @property
    def tmp(self) -> Path:
        return self.path / "tmp"

    def prepare(self) -> None:
        """Make it ready for a start."""
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.tmp.mkdir(mode=0o700, exist_ok=True)

    def empty(self) -> Path:
        """Move everything but the session away, at once; return what is then to be deleted at leisure."""
        target = Path(tempfile.mkdtemp(dir=self._trash))
        for entry in self.path.iterdir():
            if entry.name != _KEPT:
                entry.rename(target / entry.name)
        return target

    def discard(self) -> Path:
        """Move the whole folder away; return what is then to be deleted."""
        target = Path(tempfile.mkdtemp(dir=self._trash))
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(target / self.path.name)
        return target

    def submitted(self) -> frozenset[str] | None:
        """Return the ids in `submitted`; none if the child never wrote it, None if it cannot be read."""
        try:
            text = (self.path / "submitted").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return frozenset()
        except OSError:
            return None
        return frozenset(text.split())

    def driver(self) -> Recorded | None:
        return self._recorded("driver", "pid")

    def browser(self) -> Recorded | None:
        return self._recorded("browser", "pgid")

    def _recorded(self, which: str, key: str) -> Recorded | None:
        entry: Any = self._processes().get(which)
        try:
            found = Recorded(int(entry[key]), int(entry["start_time"]))
        except (TypeError, KeyError, ValueError):
            return None
        return found if found.id > 1 else None

    def _processes(self) -> dict[str, Any]:
        try:
            content = json.loads((self.path / "processes.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


class RunRoot:
    """The root of all run folders of this coordinator; held by a lock, removed by `remove`."""

    def __init__(self, parent: Path | None = None) -> None:
        """Make a new root in `parent` (default: the system's folder for temporary files).

        Raises RunFolderError.
        """
        parent = parent or roomy(Path(tempfile.gettempdir()))
        try:
            sweep(parent)
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._children, self.trash = self.path / "children", self.path / "trash"
            for folder in (self._children, self.trash):
                folder.mkdir(mode=0o700)
            self.key_file.touch(mode=0o600)
        except OSError as error:
            raise RunFolderError(
                f"Cannot make a folder for running children in {parent} ({error.strerror}); "
                "make it writable, or choose another by TMPDIR."
            ) from None
        self._numbers = itertools.count(1)
        self._folders: dict[str, RunFolder] = {}

    @property
    def key_file(self) -> Path:
        """What children check API keys against; there from the start, empty until keys are written."""
        return self.path / "keys"

    def write_keys(self, text: str) -> None:
        """Replace the key file in one step. Raises OSError."""
        draft = self.path / "keys.new"
        draft.write_text(text, encoding="utf-8")  # the root is closed to others
        draft.replace(self.key_file)

    def folder(self, name: str) -> RunFolder:
        """Return the folder of that child. Its path does not contain the name, which is the operator's."""
        if name not in self._folders:
            path = self._children / str(next(self._numbers))
            self._folders[name] = RunFolder(path, self.trash)
        return self._folders[name]

    def forget(self, name: str) -> Path | None:
        """Move the child's folder away; return what is then to be deleted."""
        folder = self._folders.pop(name, None)
        return folder.discard() if folder else None

    def remove(self) -> None:
        """Delete all of it. Idempotent."""
        if self._lock >= 0:
            delete(self.path)
            os.close(self._lock)
            self._lock = -1


def roomy(parent: Path) -> Path:
    """The folder itself, or /tmp where its path is too long for the browsers' sockets.

    Chromium puts a Unix socket under its TMPDIR, and such a path has at most 107 bytes (`man 7 unix`).
    """
    if len(os.fsencode(parent)) <= _MAX_PARENT_BYTES:
        return parent
    log.warning("tmpdir_too_long", used="/tmp", most_bytes=_MAX_PARENT_BYTES)  # noqa: S108 - a folder of our own in it
    return Path("/tmp")  # noqa: S108 - as above


def delete(path: Path) -> None:
    """Delete a tree; what vanishes meanwhile, or grows, is no error."""
    for _ in range(3):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return


def sweep(parent: Path) -> None:
    """Delete the roots of coordinators that were killed, and kill what their children left running.

    A root is such if it belongs to us, and nobody holds its lock.
    """
    for root in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = root.lstat()
            if status.st_uid == os.getuid() and root.is_dir() and not root.is_symlink():
                _delete_if_abandoned(root, age_s=time.time() - status.st_mtime)


def _delete_if_abandoned(root: Path, age_s: float) -> None:
    try:
        lock = os.open(root / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        if age_s > _YOUNG_S:  # a younger one may just be in the making
            delete(root)
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in (root / "children").glob("*"):
            leftovers.kill(RunFolder(path, root / "trash"))
        delete(root)
    finally:
        os.close(lock)

"""The root of all run folders of one coordinator.

ROOT/               0700, new for every coordinator
  lock              held by its coordinator
  keys              what children check API keys against
  claim_deadline    until when the claims of its logins hold: see `contract.claim_deadline`; none without CLAIMS
  sites/            the site files in use, which children are started with
  children/N/       one per child name, kept over its restarts: see `run_folder`
  hosts/N/          one per host that runs: processes.json and TMPDIR of its children's browser; none without hosts
  trash/            what is being deleted
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

import structlog

from contract.files import write_private
from coordinator.errors import RunFolderError
from coordinator.local.run_folder import RunFolder, delete

PREFIX: Final = "tabfleet-run-"
CLAIM_DEADLINE: Final = "claim_deadline"
_YOUNG_S: Final = 60.0
_SOCKET_IN_TMPDIR: Final = "/org.chromium.Chromium.XXXXXX/SingletonSocket"
_MAX_PARENT_BYTES: Final = 107 - len(f"/{PREFIX}XXXXXXXX/children/9999/tmp{_SOCKET_IN_TMPDIR}")

log = structlog.get_logger(__name__)


class RunRoot:
    """The root of all run folders of this coordinator; held by a lock, removed by `remove`."""

    def __init__(self, parent: Path | None = None) -> None:
        """Make a new root in `parent` (default: the system's folder for temporary files).

        Raises RunFolderError.
        """
        parent = parent or short_enough(Path(tempfile.gettempdir()))
        try:
            sweep(parent)
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            self._children, self._hosts, self.trash = (self.path / name for name in ("children", "hosts", "trash"))
            self._keys = ""
            self._sites: dict[str, str] = {}
            self._lock = -1
            self.restore()
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

    def restore(self) -> None:
        """Make what is missing of it, as after a cleaner of temporary files. Raises OSError."""
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        status = self.path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise FileExistsError(errno.EEXIST, "the folder for running children has been replaced by another's")
        for folder in (self._children, self.trash):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not self.key_file.exists():
            self.write_keys(self._keys)
        for site, text in self._sites.items():
            if not self.site_file(site).exists():
                self.write_site(site, text)
        if self._lock < 0 or not (self.path / "lock").exists():
            lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._lock >= 0:
                os.close(self._lock)
            self._lock = lock

    def write_keys(self, text: str) -> None:
        """Replace the key file in one step. Raises OSError."""
        self._keys = text
        draft = self.path / "keys.new"
        draft.touch(mode=0o600)
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.key_file)

    def site_file(self, site: str) -> Path:
        """Return where the file of that site is that children are started with; its name is that of a site file."""
        return self.path / "sites" / f"{site}.toml"

    def write_site(self, site: str, text: str) -> None:
        """Put a site's file in place, in one step. Raises OSError."""
        self._sites[site] = text
        path = self.site_file(site)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(path, text.encode())

    def folder(self, name: str) -> RunFolder:
        """Return the folder of that child. Its path does not contain the name, which is the operator's."""
        if name not in self._folders:
            path = self._children / str(next(self._numbers))
            self._folders[name] = RunFolder(path, self.trash)
        return self._folders[name]

    def host_folder(self, number: int) -> RunFolder:
        """Return the folder of the host of that number, which no other one has now. Raises OSError."""
        self._hosts.mkdir(mode=0o700, exist_ok=True)
        return RunFolder(self._hosts / str(number), self.trash)

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


def short_enough(parent: Path) -> Path:
    """Return the folder itself, or /tmp where its path is too long for the browsers' sockets.

    Chromium puts a Unix socket under its TMPDIR, and such a path has at most 107 bytes (`man 7 unix`).
    """
    if len(os.fsencode(parent)) <= _MAX_PARENT_BYTES:
        return parent
    log.warning("tmpdir_too_long", used="/tmp", most_bytes=_MAX_PARENT_BYTES)  # noqa: S108 - a folder of our own in it
    return Path("/tmp")  # noqa: S108 - as above


def sweep(parent: Path) -> None:
    """Delete the roots of coordinators that were killed, and kill what their children left running.

    A root is such if it belongs to us, and nobody holds its lock.
    """
    for root in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another coordinator may sweep it at the same time
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
        for path in (*(root / "children").glob("*"), *(root / "hosts").glob("*")):
            RunFolder(path, root / "trash").kill_leftovers()
        delete(root)
    finally:
        os.close(lock)

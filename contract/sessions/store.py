"""One login's files in SESSION_DIR: its session, replaced in one step, and the fence that orders who may write.

NAME.session  the session: see `record`
NAME.fence    "NUMBER HOLDER": the newest start that was granted the session; also the lock of both files

Who grants or writes holds the fence's lock (flock), so that no write comes between a look at the fence and the
rename. That holds among all processes on one machine, and among machines as far as the file system passes locks on
(NFS 4 and CephFS do). Where it does not, a write that was begun before a grant may still land after it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from contract.files import write_private
from contract.sessions.errors import BadSession, NotGranted
from contract.sessions.key import SessionKey
from contract.sessions.record import MAX_FILE_BYTES, SavedSession, Token

SUFFIX: Final = ".session"
LOCK_TIMEOUT_S: Final = 2.0
"""How long a lock is waited for; who holds it writes one file and syncs it."""

_LOCK_AGAIN_S: Final = 0.01
_LONGEST_NAME: Final = 200  # of 255 bytes, for names of drafts are longer
_FENCE_BYTES: Final = 64


def file_stem(name: str) -> str:
    """Return what a login's files are called: its name, as far as every file system takes that."""
    quoted = quote(name, safe=" @+=,")
    quoted = quoted.replace(".", "%2E", 1) if quoted.startswith(".") else quoted
    if len(quoted) <= _LONGEST_NAME:
        return quoted
    return f"{quoted[:100]}%{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}"


def name_of(stem: str) -> str | None:
    """Return the login whose files are called so; None if that cannot be told."""
    name = unquote(stem)
    return name if file_stem(name) == stem else None


@dataclass(frozen=True)
class SessionFile:
    """The files of the login `name` in `folder`, encrypted if there is a `key`."""

    folder: Path
    name: str
    key: SessionKey | None = None

    @property
    def path(self) -> Path:
        """The session's file."""
        return self.folder / f"{file_stem(self.name)}{SUFFIX}"

    @property
    def fence(self) -> Path:
        """The fence's file."""
        return self.folder / f"{file_stem(self.name)}.fence"

    def read_bytes(self) -> bytes | None:
        """Return the file's content, None if there is none. Raises BadSession for what is no file of ours."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            is_link = error.errno == errno.ELOOP
            raise BadSession("is a link; remove it" if is_link else f"cannot be read: {error.strerror}") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BadSession("is not a regular file; remove it")
            if status.st_uid != os.geteuid():
                raise BadSession(f"belongs to uid {status.st_uid}; chown it to {os.geteuid()}, or remove it")
            if status.st_mode & 0o077:
                # Orchestrators give a volume's files to a group when they mount it.
                with suppress(OSError):
                    os.fchmod(descriptor, 0o600)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise BadSession(f"cannot be read: {error.strerror}") from None
        finally:
            os.close(descriptor)

    def read(self) -> SavedSession | None:
        """Return the saved session, None if there is none. Raises BadSession."""
        data = self.read_bytes()
        return None if data is None else self.understood(data)

    def understood(self, data: bytes) -> SavedSession:
        """Return the session that a file of this login holds. Raises BadSession."""
        session = SavedSession.from_bytes(data, self.key)
        if session.login not in ("", self.name):
            raise BadSession("is that of another login; remove it")
        return session

    def grant(self, holder: str, *, at_least: int = 0) -> Token:
        """Give the session to a new start; whatever was granted before is refused from now on. Raises OSError.

        The number that is granted is above every earlier one, and above `at_least`.
        """
        with self._locked() as fence:
            newest = _read_fence(fence)
            if newest is None:
                # The fence is new, or damaged; a volume may also have come without it.
                with suppress(BadSession):
                    session = self.read()
                    newest = session.token if session else None
            token = Token(max((newest or Token()).number, at_least) + 1, holder)
            _write_fence(fence, token)
        return token

    def write(self, session: SavedSession, *, confirm: Callable[[], object] = lambda: None) -> None:
        """Replace the session, unless a newer start has been granted it: what is on the disk is the old or the new.

        `confirm` is called immediately before that, and what it raises prevents it. Raises NotGranted, BadSession for a
        file that is not to be replaced, OSError.
        """
        with self._locked() as fence:
            if _read_fence(fence) != session.token:
                raise NotGranted("a newer start, or another coordinator, has been given this login's session")
            # What cannot be read is not replaced: it may be all that there is of a login, under another key.
            existing = self.read()
            if existing is not None and existing.token.number > session.token.number:
                raise NotGranted("a newer start has saved this login's session")
            self._replace(session.to_bytes(self.key), confirm)

    def adopt(self, data: bytes, session: SavedSession) -> bool:
        """Put in a file that was saved elsewhere, if it is newer than the one here; return whether it was.

        Raises BadSession, OSError.
        """
        with self._locked() as fence:
            here = self.read()
            newest = _read_fence(fence) or Token()
            if here is not None and (here.token.number, here.saved_at) >= (session.token.number, session.saved_at):
                return False
            # A start that runs here keeps its grant, unless the other one is later.
            if session.token.number >= newest.number:
                _write_fence(fence, session.token)
            self._replace(data)
            return True

    def encrypt(self) -> None:
        """Encrypt a session that was saved before there was a key, or for an older one. Raises BadSession, OSError."""
        if self.key is None or (data := self.read_bytes()) is None or self.key.is_newest(data):
            return
        with self._locked():
            data = self.read_bytes()  # a child may have written meanwhile
            if data is not None and not self.key.is_newest(data):
                self._replace(replace(self.understood(data), login=self.name).to_bytes(self.key))

    def _replace(self, data: bytes, confirm: Callable[[], object] = lambda: None) -> None:
        write_private(self.path, data, confirm=confirm)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the lock of both files; give the fence's descriptor. Raises OSError, TimeoutError among them."""
        descriptor = os.open(self.fence, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if (owner := os.fstat(descriptor).st_uid) != os.geteuid():
                raise PermissionError(errno.EPERM, f"its fence belongs to uid {owner}; chown it to {os.geteuid()}")
            deadline = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimeoutError(errno.ETIMEDOUT, "another process holds the lock for too long") from None
                time.sleep(_LOCK_AGAIN_S)
            yield descriptor
        finally:
            os.close(descriptor)


def _read_fence(descriptor: int) -> Token | None:
    """Return the newest grant; None if there is none yet, or it cannot be read."""
    number, _, holder = os.pread(descriptor, _FENCE_BYTES, 0).decode("ascii", "replace").strip().partition(" ")
    return Token(int(number), holder) if number.isdecimal() and number.isascii() and holder else None


def _write_fence(descriptor: int, token: Token) -> None:
    # In place, for a rename would leave the lock with the old file; of one length, so that it fits on a full disk too.
    line = f"{token.number} {token.holder}".ljust(_FENCE_BYTES - 1) + "\n"
    if os.pwrite(descriptor, line.encode("ascii"), 0) != _FENCE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)

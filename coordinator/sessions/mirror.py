"""Copies of saved sessions where other coordinators find them: in the profiles' bucket, or in the store of claims.

In the bucket they are under a prefix of their own: PREFIX/NAME.session. What is uploaded is a file as it is, encrypted.
Of two that differ the one with the higher token counts (see `contract.sessions.record.Token`). A write names the
version that it replaces, where the storage knows such conditions, so that it does not land on what another coordinator
has put there since.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from contract.errors import TabfleetError
from contract.sessions.errors import BadSession
from contract.sessions.key import is_encrypted
from contract.sessions.record import SavedSession
from contract.sessions.store import SUFFIX, SessionFile, file_stem
from contract.storage_state.document import MAX_PROFILE_BYTES
from coordinator.profiles.errors import ObjectChanged, ObjectGone
from coordinator.profiles.s3_client import S3Client
from coordinator.profiles.s3_types import Fetched, S3Location, S3Options
from coordinator.settings import Settings

log = structlog.get_logger(__name__)

_FIRST_DELAY_S: Final = 5.0
_LONGEST_DELAY_S: Final = 300.0
_ATTEMPTS: Final = 3
"""How often a session is put in place of one that has changed meanwhile, before it counts as failed."""


class SharedSessions(Protocol):
    """Where copies are kept, by the names of logins. Both methods may raise TabfleetError, and may block."""

    def read(self, login: str) -> Fetched:
        """Return the copy of a login's session. Raises ObjectGone where there is none."""

    def write(self, login: str, data: bytes, *, replaces: str | None) -> str:
        """Put a copy in place of the one of this version, None: of none; return its version. Raises ObjectChanged."""


class S3Sessions:
    """Copies in the bucket of the profiles."""

    def __init__(self, location: S3Location, options: S3Options) -> None:
        """Its prefix is that of the copies."""
        self._client, self._prefix = S3Client(location, options), location.prefix

    def _key(self, login: str) -> str:
        return f"{self._prefix}/{file_stem(login)}{SUFFIX}"

    def read(self, login: str) -> Fetched:
        """Return a copy. Raises ObjectGone, S3Refused, S3Unreachable."""
        return self._client.read(self._key(login))

    def write(self, login: str, data: bytes, *, replaces: str | None) -> str:
        """Put a copy. Raises ObjectChanged, S3Refused, S3Unreachable."""
        return self._client.write(self._key(login), data, replaces=replaces)


class NotUploaded(TabfleetError):
    """A session was not uploaded, for a reason that lies in the object that is there."""


@dataclass
class _Copy:
    """What is known of one login's copy."""

    identity: tuple[int, int, int] | None = None
    """Which file was uploaded: inode, time and size."""
    etag: str | None = None
    failures: int = 0
    not_before: float = 0.0
    trouble: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class _Found:
    """What there is of a login."""

    data: bytes
    etag: str
    session: SavedSession


class Mirror:
    """Fetches and uploads sessions. Any thread may use it; one login's files are dealt with by one at a time."""

    def __init__(self, open_shared: Callable[[], SharedSessions], clock: Callable[[], float] = time.monotonic) -> None:
        """`open_shared` is called when the copies are needed first, and may raise as their methods do."""
        self._open_shared, self._clock = open_shared, clock
        self._opened: SharedSessions | None = None
        self._opening = threading.Lock()
        self._copies: dict[str, _Copy] = {}
        self.uploads = 0
        self.failures = 0

    def fetch(self, files: Sequence[SessionFile]) -> bool:
        """Put in each session that is newer there than here, or missing here; what fails is told.

        Return whether each of them is here now as it is there, or newer.
        """
        complete = True
        for file in files:
            copy = self._copies.setdefault(file.name, _Copy())
            with copy.lock:
                try:
                    found = self._read(file)
                    if found is not None and file.adopt(found.data, found.session):
                        log.info("session_fetched", login=file.name)
                    copy.trouble = None
                except (TabfleetError, OSError) as error:
                    self._tell(file.name, copy, "fetched", error)
                    complete = False
        return complete

    def upload(self, files: Sequence[SessionFile], *, at_once: bool = False) -> bool:
        """Upload each file that has changed since it was last, unless it waits after a failure.

        Return whether each of them is there now as it is here.
        """
        complete = True
        for file in files:
            copy = self._copies.setdefault(file.name, _Copy())
            with copy.lock:
                complete &= self._upload_if_changed(file, copy, at_once=at_once)
        return complete

    def _upload_if_changed(self, file: SessionFile, copy: _Copy, *, at_once: bool) -> bool:
        try:
            status = file.path.lstat()
        except OSError:
            return True
        identity = (status.st_ino, status.st_mtime_ns, status.st_size)
        if identity == copy.identity:
            return True
        if self._clock() < copy.not_before and not at_once:
            return False
        try:
            if self._upload(file, copy):
                self.uploads += 1
            copy.identity, copy.failures, copy.trouble = identity, 0, None
        except (TabfleetError, OSError) as error:
            self.failures += 1
            copy.failures += 1
            copy.not_before = self._clock() + min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** (copy.failures - 1))
            self._tell(file.name, copy, "uploaded", error)
            return False
        return True

    def _upload(self, file: SessionFile, copy: _Copy) -> bool:
        """Put the file there; return whether it had to be."""
        data = file.read_bytes()
        if data is None or not is_encrypted(data):
            return False
        if len(data) > MAX_PROFILE_BYTES:
            raise BadSession(f"is larger than the {MAX_PROFILE_BYTES} bytes that are fetched again")
        session = file.understood(data)
        for _ in range(_ATTEMPTS):
            # Known only where the object is one that we have written.
            replaces, copy.etag = copy.etag, None
            if replaces is None and (there := self._read(file)) is not None:
                if there.data == data:
                    return False
                _check_newer(session, there.session)
                replaces = there.etag
            with suppress(ObjectChanged):
                copy.etag = self._shared().write(file.name, data, replaces=replaces)
                return True
        raise NotUploaded("another coordinator uploads it too; stop one of the two")

    def _read(self, file: SessionFile) -> _Found | None:
        """Return what there is of this login. Raises NotUploaded, S3Refused, S3Unreachable."""
        try:
            fetched = self._shared().read(file.name)
        except ObjectGone:
            return None
        if fetched.refused:
            raise NotUploaded(f"cannot be read in its copy: {fetched.refused}")
        try:
            return _Found(fetched.data, fetched.etag, file.understood(fetched.data))
        except BadSession as error:
            raise NotUploaded(f"in its copy {error.reason}") from None

    def _tell(self, name: str, copy: _Copy, done: str, error: TabfleetError | OSError) -> None:
        if isinstance(error, BadSession):
            reason = error.reason
        elif isinstance(error, OSError):
            reason = f"is not {done}: {error.strerror or type(error).__name__}"
        elif isinstance(error, NotUploaded):
            reason = str(error)
        else:
            reason = f"is not {done}: {error}"
        if reason != copy.trouble:
            log.warning("session_not_mirrored", login=name, reason=reason)
        copy.trouble = reason

    def _shared(self) -> SharedSessions:
        with self._opening:
            if self._opened is None:
                self._opened = self._open_shared()
            return self._opened

    def warnings(self) -> list[str]:
        """Return what the operator should know, a line each."""
        troubles = sorted((name, copy.trouble) for name, copy in tuple(self._copies.items()) if copy.trouble)
        return [f"The saved session of {name} {trouble}." for name, trouble in troubles]


def _check_newer(ours: SavedSession, there: SavedSession) -> None:
    """Raise NotUploaded if the object that is there is not ours to replace."""
    if there.token.number > ours.token.number:
        raise NotUploaded("has a newer copy, of another coordinator, which is taken at the next start")
    if there.token.number == ours.token.number and there.token.holder != ours.token.holder:
        raise NotUploaded("has another copy, of another coordinator; restart the one that is to stay")


def mirror_from_settings(settings: Settings) -> Mirror | None:
    """Return what SESSION_S3_PREFIX asks for, None without it; does no I/O."""
    if settings.session_s3_prefix is None:
        return None
    location = S3Location(settings.auth_profile_s3_bucket or "", settings.session_s3_prefix)
    options = S3Options.from_settings(settings)
    return Mirror(lambda: S3Sessions(location, options))

"""Grants of the session store, one for each start of a child, and the warnings that `/ready` shows of it."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import structlog

from contract.sessions.errors import BadSession, SessionKeyError
from contract.sessions.grant import Grant, write_grant
from contract.sessions.key import SessionKey
from contract.sessions.store import SUFFIX, SessionFile, name_of
from coordinator.errors import SettingsError
from coordinator.sessions.mirror import Mirror, SharedSessions, mirror_from_settings
from coordinator.settings import Settings
from coordinator.supervision.events import ChildCleaned, FleetEvent, SessionReported

log = structlog.get_logger(__name__)

TEND_S: Final = 5.0
"""How often what could not be done is tried again, and what has changed is uploaded."""
STARTS_PER_CLAIM: Final = 1_000_000
"""Starts are counted from the claim's number times this."""
_DRAFT_AGE_S: Final = 3600.0  # a draft lives for the time of one write


class Sessions:
    """The session store of one coordinator. Its methods may block on the volume: call them in a thread.

    `fleet_event` and `warnings` do not block.
    """

    def __init__(
        self, folder: Path, key_file: Path | None = None, mirror: Mirror | None = None, *, by_claim: bool = False
    ) -> None:
        """Read the key. With `by_claim`, a login is ours from `take` to `leave` only. Raises SettingsError."""
        self._folder, self._key_file, self._mirror, self._by_claim = folder, key_file, mirror, by_claim
        try:
            self._key = SessionKey.from_file(key_file) if key_file else None
        except SessionKeyError as error:
            raise SettingsError(f"SESSION_KEY_FILE={key_file} (--session-key-file) {error}.") from None
        self._holder = secrets.token_hex(8)
        self._lock = threading.Lock()  # a run folder's note and the fence say the same
        self._names: set[str] = set()
        self._claims: dict[str, int] = {}
        self._ungranted: dict[str, tuple[Path, str]] = {}
        self._folder_trouble: str | None = None
        self._troubles: dict[str, str] = {}
        self._saved_at: dict[str, float] = {}

    @classmethod
    def from_settings(cls, settings: Settings, shared: SharedSessions | None = None) -> Self | None:
        """Return the store that the settings ask for, None without SESSION_DIR. Raises SettingsError.

        `shared` is where copies go that do not go to S3.
        """
        if settings.session_dir is None:
            return None
        mirror = mirror_from_settings(settings) or (Mirror(lambda: shared) if shared else None)
        return cls(settings.session_dir, settings.session_key_file, mirror, by_claim=settings.claims != "none")

    @property
    def key_fingerprints(self) -> tuple[str, ...]:
        """What stands for the keys of the store, the one that encrypts first; none without a key."""
        return () if self._key is None else self._key.fingerprints

    def open(self, names: Iterable[str]) -> None:
        """Make the folder ready for these logins, and fetch what of theirs is newer in the bucket.

        What fails is logged and stands in `warnings`; children start without.
        """
        new = set() if self._by_claim else set(names) - self._names
        self._names |= new
        try:
            self._prepare()
            if self._mirror is not None:
                self._mirror.fetch([SessionFile(self._folder, name, self._key) for name in sorted(new)])
            self._tidy()
        except OSError as error:
            self._note_folder(error)

    def unusable(self) -> str | None:
        """Return why nothing can be kept in the folder now; None if it can: a file is written there, and removed."""
        try:
            self._prepare()
            with tempfile.TemporaryFile(dir=self._folder) as file:
                file.write(b"x")
        except OSError as error:
            self._note_folder(error)
        else:
            self._note_folder(None)
        return self._folder_trouble

    def take(self, name: str, claim: int) -> bool:
        """Begin to keep the session of a login that is ours by this claim's number; fetch what its last holder left.

        Starts are granted numbers that are above those of all earlier claims, so that what is saved now is newer than
        what any other cell has saved. Return False where it cannot be told what is newest: then no browser may start,
        for one that opens an older session can end the login.
        """
        file = SessionFile(self._folder, name, self._key)
        try:
            self._prepare()
        except OSError as error:
            self._note_folder(error)
            return False
        if self._mirror is not None and not self._mirror.fetch([file]):
            return False
        self._claims[name] = claim
        self._names.add(name)
        return True

    def leave(self, name: str) -> bool:
        """Upload the session of a login whose browser has ended, for its next holder; return whether it is there."""
        return self._mirror is None or self._mirror.upload([SessionFile(self._folder, name, self._key)], at_once=True)

    def _prepare(self) -> None:
        """Make the folder, ours alone. Raises OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self._folder.stat()
        if status.st_uid != os.geteuid():
            raise PermissionError(1, f"it belongs to uid {status.st_uid}; chown it to {os.geteuid()}")
        if stat.S_IMODE(status.st_mode) != 0o700:
            self._folder.chmod(0o700)

    def _tidy(self) -> None:
        """Leave nothing in plain where there is a key: sessions of before, and drafts of who was killed."""
        for draft in self._folder.glob(f".*{SUFFIX}.*"):
            with suppress(OSError):
                if time.time() - draft.lstat().st_mtime > _DRAFT_AGE_S:
                    draft.unlink()
        if self._key is None:
            return
        stems = (path.stem for path in self._folder.glob(f"*{SUFFIX}"))
        for name in sorted(self._names | {name for stem in stems if (name := name_of(stem)) is not None}):
            try:
                SessionFile(self._folder, name, self._key).encrypt()
            except (BadSession, OSError) as error:
                reason = error.reason if isinstance(error, BadSession) else f"cannot be encrypted: {error.strerror}"
                log.warning("session_left_alone", login=name, reason=reason)

    def grant(self, name: str, run_dir: Path) -> None:
        """Give the login's session to the start that has this run folder; older starts are refused from now on.

        Where the volume does not let it, the child is told to save nothing, and `tend` tries again. Raises OSError for
        the run folder.
        """
        with self._lock:
            number, reason = self._next_number(name)
            self._ungranted.pop(name, None)
            if number is None:
                self._ungranted[name] = run_dir, reason
            key_file = str(self._key_file) if self._key_file else None
            write_grant(run_dir, Grant(str(self._folder), name, number, self._holder, key_file))

    def _next_number(self, name: str) -> tuple[int | None, str]:
        """Return the number of the next start; None if there is none, with the reason unless that is the folder's."""
        try:
            self._prepare()
        except OSError as error:
            self._note_folder(error)
            return None, ""
        self._note_folder(None)
        at_least = self._claims.get(name, 0) * STARTS_PER_CLAIM
        try:
            return SessionFile(self._folder, name, self._key).grant(self._holder, at_least=at_least).number, ""
        except OSError as error:
            reason = error.strerror or type(error).__name__
            if reason != self._ungranted.get(name, (None, None))[1]:
                log.warning("session_not_granted", child=name, reason=reason)
            return None, reason

    def _note_folder(self, error: OSError | None) -> None:
        trouble = None if error is None else error.strerror or type(error).__name__
        if trouble and trouble != self._folder_trouble:
            log.warning("session_dir_unusable", reason=trouble)
        self._folder_trouble = trouble

    def tend(self) -> None:
        """Grant again what could not be granted, and upload what has changed."""
        for name, (run_dir, _) in tuple(self._ungranted.items()):
            with suppress(OSError):  # of the run folder, which has gone meanwhile
                self.grant(name, run_dir)
        self.upload()

    def upload(self, *, at_once: bool = False) -> None:
        """Upload what has changed, `at_once` also what waits after a failure; what fails stands in `warnings`."""
        if self._mirror is not None:
            files = [SessionFile(self._folder, name, self._key) for name in sorted(self._names)]
            self._mirror.upload(files, at_once=at_once)

    def fleet_event(self, event: FleetEvent) -> None:
        """Take in what children report; a hook of the supervisor."""
        match event:
            case SessionReported(report=report):
                if report.saved_at is not None:
                    self._saved_at[event.child] = report.saved_at
                if report.trouble and report.trouble != self._troubles.get(event.child):
                    log.warning("session_trouble", child=event.child, reason=report.trouble)
                self._set_trouble(event.child, report.trouble)
            case ChildCleaned():
                self._set_trouble(event.child, None)

    def _set_trouble(self, name: str, trouble: str | None) -> None:
        self._troubles.pop(name, None)
        if trouble:
            self._troubles[name] = trouble

    def forget(self, name: str) -> None:
        """Drop what is known of a login that is not ours any more; its files stay."""
        self._names.discard(name)
        self._claims.pop(name, None)
        self._saved_at.pop(name, None)
        self._set_trouble(name, None)
        self._ungranted.pop(name, None)

    def trouble_of(self, name: str) -> str | None:
        """Return what keeps this login from being saved, as far as is known; None if nothing does. Does not block."""
        ungranted = self._ungranted.get(name)
        return self._folder_trouble or (ungranted and ungranted[1]) or self._troubles.get(name)

    def oldest_save_at(self) -> float | None:
        """Return when the session was saved that has not been saved for longest, in Unix seconds."""
        return min(self._saved_at.values(), default=None)

    def uploads(self) -> tuple[int, int]:
        """Return how many uploads to the bucket succeeded, and how many failed."""
        return (0, 0) if self._mirror is None else (self._mirror.uploads, self._mirror.failures)

    def warnings(self) -> list[str]:
        """Return what the operator should know, a line each; no path and no secret."""
        refused = {
            name: f"cannot be given to its child: {why}" for name, (_, why) in self._ungranted.copy().items() if why
        }
        troubles = self._troubles | refused
        lines = [f"The saved session of {name} {trouble}." for name, trouble in sorted(troubles.items())]
        if self._folder_trouble and not self._by_claim:  # else the cell claims nothing, and says so
            lost = "logins that change are lost when the coordinator ends"
            lines.insert(0, f"SESSION_DIR cannot be used: {self._folder_trouble}; {lost}.")
        return lines + (self._mirror.warnings() if self._mirror is not None else [])

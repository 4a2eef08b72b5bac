"""One login in one browser at a time on this machine, whoever starts it."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from browser.errors import ProfileLocked
from browser.process.parent_death import wait_gone
from contract.processes import ProcessIdentity

LEFTOVER_TIMEOUT_S = 5.0


def locks_dir() -> Path:
    """Return the folder that all children of this user share. TMPDIR does not move it: it differs by child."""
    return Path(f"/tmp/tabfleet-{os.getuid()}-locks")  # noqa: S108 - ownership is checked before use


class ProfileLock:
    """Holds a login from `acquire` until `release`, or until this process ends."""

    def __init__(self, path: Path) -> None:
        """Open the lock's file. Raises ProfileLocked if it, or its folder, cannot be trusted."""
        self._path = path
        self._descriptor: int | None = _open_lock(path)

    @classmethod
    async def acquire(cls, fingerprint: str, profile_name: str, *, folder: Path | None = None) -> Self:
        """Take the login with this fingerprint; a browser that an earlier owner left running is ended first.

        Raises ProfileLocked if another process holds it, or if the lock cannot be trusted.
        """
        lock = cls((folder or locks_dir()) / fingerprint)
        with ExitStack() as undo:
            undo.callback(lock._close)
            try:
                fcntl.flock(lock._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # An owner that let go in between took the file with it, and the next one would lock another.
                while not os.fstat(lock._held).st_nlink:
                    lock._close()
                    lock._descriptor = _open_lock(lock._path)
                    fcntl.flock(lock._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                problem = "its login is in use by another browser on this machine; stop that one first"
                raise ProfileLocked(f"profile {profile_name}: {problem}") from None
            leftover, mark = lock._noted_browser()
            if leftover is not None:
                leftover.kill_group(mark)
                if not await wait_gone(leftover, LEFTOVER_TIMEOUT_S):
                    problem = f"process {leftover.pid}, a browser of an earlier start, does not end; kill it"
                    raise ProfileLocked(f"profile {profile_name}: {problem}")
            undo.pop_all()
        return lock

    def note_browser(self, browser: ProcessIdentity, run_dir: Path) -> None:
        """Write down whose browser uses the login, for the next owner; what belongs to it mentions its run folder."""
        self._write(json.dumps({"pgid": browser.pid, "start_time": browser.start_time, "run_dir": str(run_dir)}))

    def release(self) -> None:
        """Let go of the login, and remove the lock's file. The browser must be gone."""
        if self._descriptor is not None:
            self._write("")
            with suppress(OSError):  # somebody has tidied up before us
                self._path.unlink()
            self._close()

    def _noted_browser(self) -> tuple[ProcessIdentity | None, str | None]:
        """Return the browser that an owner noted and never saw the end of, and its run folder; None if not readable."""
        try:
            noted = json.loads(os.pread(self._held, 4096, 0))
            browser = ProcessIdentity(int(noted["pgid"]), int(noted["start_time"]))
            run_dir = noted.get("run_dir")
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return None, None
        # kill(2) takes 0 and -1 for more than one process; every process mentions the empty text.
        return browser if browser.pid > 1 else None, run_dir if isinstance(run_dir, str) and run_dir else None

    @property
    def _held(self) -> int:
        if self._descriptor is None:
            raise RuntimeError("the lock was released")
        return self._descriptor

    def _write(self, text: str) -> None:
        os.ftruncate(self._held, 0)
        os.pwrite(self._held, text.encode(), 0)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open_lock(path: Path) -> int:
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _verify(folder.lstat(), stat.S_ISDIR)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        _verify(os.fstat(descriptor), stat.S_ISREG)
    except OSError as error:
        raise ProfileLocked(f"lock folder {folder}: {error.strerror}; remove it or make it yours alone") from None
    return descriptor


def _verify(status: os.stat_result, is_kind: object) -> None:
    if not callable(is_kind) or not is_kind(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(1, "it is not a private folder of this user")

"""What the coordinator tells a child of the session store, in a file of the run folder: places and numbers, no key."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from contract.files import write_private
from contract.sessions.errors import BadSession, NotGranted, SessionKeyError
from contract.sessions.key import SessionKey
from contract.sessions.record import SavedSession, Token
from contract.sessions.store import SessionFile

GRANT: Final = "session_grant.json"


@dataclass(frozen=True)
class Grant:
    """Where the session of the login `name` is kept, and by which token this start may write it; None: not at all.

    `key_file` is the path of the age identities: the child reads them itself, so that no copy of them is made.
    """

    folder: str
    name: str
    number: int | None
    holder: str
    key_file: str | None = None

    def file(self) -> SessionFile:
        """Return the login's files. Raises BadSession if the key cannot be read now."""
        try:
            key = SessionKey.from_file(Path(self.key_file)) if self.key_file else None
        except SessionKeyError as error:
            raise BadSession(f"cannot be opened: the file of SESSION_KEY_FILE {error}") from None
        return SessionFile(Path(self.folder), self.name, key)

    def save(
        self,
        source_sha256: str,
        state: dict[str, object],
        now: float,
        *,
        confirm: Callable[[], object] = lambda: None,
    ) -> None:
        """Save the session of this login, at `now` in Unix seconds. Raises NotGranted, BadSession, OSError.

        `confirm` is called immediately before the file is replaced, and what it raises prevents that.
        """
        if self.number is None:
            raise NotGranted("SESSION_DIR could not be written to when the child was started")
        token = Token(self.number, self.holder)
        self.file().write(SavedSession(self.name, source_sha256, state, token, now), confirm=confirm)


def write_grant(run_dir: Path, grant: Grant) -> None:
    """Tell the child of this run folder; a child that runs has it for its next save. Raises OSError."""
    write_private(run_dir / GRANT, json.dumps(asdict(grant)).encode())


def read_grant(run_dir: Path) -> Grant | None:
    """Return what the coordinator has told, None if there is no session store. Raises BadSession if it is damaged."""
    try:
        return Grant(**json.loads((run_dir / GRANT).read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        raise BadSession("cannot be found: the run folder's note of it is damaged") from None

"""What the cells of one fleet must have alike: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FORMAT: Final = 1
"""The version of what cells write for each other: registrations, claims, notes and sessions."""


@dataclass(frozen=True)
class SharedSettings:
    """What a cell goes by, and relies on others to go by, too.

    `ttl_s` is how long a store that has lost its data must wait before it gives a lease: as long as the longest lease
    there may be. `session_keys` are the fingerprints of SESSION_KEY_FILE's keys, the first of which encrypts.
    `sessions` is a digest of where saved sessions go, empty for the store of claims.
    """

    ttl_s: int
    session_keys: tuple[str, ...] = ()
    sessions: str = ""
    format: int = FORMAT

    def difference(self, other: SharedSettings) -> tuple[str, str, str] | None:
        """Return the first setting that differs, what it is here, and what it is there; None if they fit.

        Of keys it is enough that each can read what the other writes, so that a key can be changed cell by cell.
        """
        if self.format != other.format:
            return "program, by the format of claims,", str(self.format), str(other.format)
        if self.ttl_s != other.ttl_s:
            return "CLAIM_TTL_S", str(self.ttl_s), str(other.ttl_s)
        if self.sessions != other.sessions:
            return "SESSION_S3_PREFIX with its bucket", _place(self.sessions), _place(other.sessions)
        if not (self._reads(other) and other._reads(self)):
            return "SESSION_KEY_FILE", _keys(self.session_keys), _keys(other.session_keys)
        return None

    def _reads(self, other: SharedSettings) -> bool:
        return set(other.session_keys[:1]) <= set(self.session_keys)


def _place(digest: str) -> str:
    return f"a place with the digest {digest}" if digest else "not set"


def _keys(fingerprints: tuple[str, ...]) -> str:
    return f"a file of the keys {', '.join(fingerprints)}" if fingerprints else "not set"

"""What was found in files that have been read before, by their digests: kept in the cache beside them.

Reading a hundred profiles again takes longer than listing the bucket. The notes hold no secret, and are
dropped when the code of the checks changes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coordinator.profiles.storage_state import Cookie, StorageState

if TYPE_CHECKING:
    from collections.abc import Mapping

VERDICTS: Final = "verdicts.json"
_CHECKS: Final = ("reasons", "lookalikes", "parsing", "cookies", "origins", "storage_state")


def dump(states: Mapping[str, StorageState]) -> bytes:
    """The notes on valid profiles, by the SHA-256 of their bytes."""
    found = {
        digest: [
            [[cookie.site, cookie.expires] for cookie in state.cookies],
            state.holds_stored_token,
            state.fingerprint,
        ]
        for digest, state in states.items()
    }
    return json.dumps({"checks": _digest_of_checks(), "states": found}).encode()


def load(folder: Path) -> dict[str, StorageState]:
    """The notes in a set's folder; none if there are none, or they are of other checks."""
    try:
        notes = json.loads((folder / VERDICTS).read_bytes())
        if notes["checks"] != _digest_of_checks():
            return {}
        return {
            digest: StorageState(tuple(Cookie(*cookie) for cookie in cookies), token, fingerprint)
            for digest, (cookies, token, fingerprint) in notes["states"].items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _digest_of_checks() -> str:
    folder = Path(__file__).parent
    source = b"".join((folder / f"{name}.py").read_bytes() for name in _CHECKS)
    return hashlib.sha256(source).hexdigest()

"""What was found in files that have been read before, by their digests: kept in the cache beside them.

Reading a hundred profiles again takes longer than listing the bucket. The notes hold no secret, and are
dropped when the code of the checks changes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import contract.storage_state
from contract.storage_state.summary import ProfileSummary
from coordinator.profiles.folders import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping

VERDICTS: Final = "verdicts.json"
_CHECKS: Final = ("lookalikes", "document", "schema", "summary")


def dump(states: Mapping[str, ProfileSummary]) -> bytes:
    """The notes on valid profiles, by the SHA-256 of their bytes."""
    found = {digest: state.to_json() for digest, state in states.items()}
    return json.dumps({"checks": _digest_of_checks(), "states": found}).encode()


def renew(folder: Path, states: Mapping[str, ProfileSummary]) -> None:
    """Replace the notes in a set's folder. Raises OSError."""
    new = folder / f"{VERDICTS}.new"
    new.unlink(missing_ok=True)
    write_private(new, dump(states))
    new.rename(folder / VERDICTS)


def load(folder: Path) -> dict[str, ProfileSummary]:
    """The notes in a set's folder; none if there are none, or they are of other checks."""
    try:
        notes = json.loads((folder / VERDICTS).read_bytes())
        if notes["checks"] != _digest_of_checks():
            return {}
        return {digest: ProfileSummary.from_json(state) for digest, state in notes["states"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _digest_of_checks() -> str:
    folder = Path(contract.storage_state.__file__ or "").parent
    source = b"".join((folder / f"{name}.py").read_bytes() for name in _CHECKS)
    return hashlib.sha256(source).hexdigest()

"""What the holder of a login's claim leaves to the next one, so that a bad login does not burn every cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pydantic

from coordinator.supervision.lifecycle import Reason, State


@dataclass(frozen=True)
class ClaimNote:
    """How a child stands that has short lives behind it, rests, has failed, or was taken out by the operator.

    It counts for the version of the profile with this SHA-256 only. `until` is the end of a rest, in Unix seconds.
    """

    sha256: str
    short_lives: int = 0
    state: State | None = None
    reason: Reason | None = None
    detail: str | None = None
    until: float | None = None

    @classmethod
    def from_bytes(cls, data: bytes) -> ClaimNote | None:
        """Return what another cell has written; None where it cannot be understood, as of a later version."""
        try:
            return _NOTE.validate_json(data)
        except pydantic.ValidationError:
            return None

    def to_bytes(self) -> bytes:
        """Return the note as JSON."""
        return _NOTE.dump_json(self, exclude_defaults=True)


_NOTE: Final = pydantic.TypeAdapter(ClaimNote)

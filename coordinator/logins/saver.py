"""Where a renewed login goes: to the child of its profile, which opens it at its next start and keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.supervision.supervisor import Supervisor


class ChildSaver:
    """Hands a login to the supervisor, which restarts the profile's child with it; the `Saver` of a fleet."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def save(self, profile_name: str, document: Mapping[str, Any]) -> str:
        """Take over a storage_state; return a line for the person. Raises UnknownChild, ActionRefused."""
        if self._supervisor.renew(profile_name, document):
            return f"The login of {profile_name!r} is renewed, and its browser goes on with it."
        return f"The login of {profile_name!r} is renewed; its browser takes it at its next start."

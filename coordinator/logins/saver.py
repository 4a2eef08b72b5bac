"""Where a renewed login goes: to the child of its profile, which opens it at its next start and keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from coordinator.errors import ActionRefused
from coordinator.supervision.supervisor import Supervisor


class ChildSaver:
    """Hands a login to the supervisor, which restarts the profile's child with it; the `Saver` of a fleet."""

    def __init__(self, supervisor: Supervisor, trouble_of: Callable[[str], str | None] = lambda _: None) -> None:
        """`trouble_of` tells what keeps a profile's login from being saved when its child starts with it."""
        self._supervisor, self._trouble_of = supervisor, trouble_of

    def check(self, profile_name: str) -> None:
        """Raise ActionRefused where the child is not this coordinator's to restart: then no person need begin."""
        self._supervisor.check_action(profile_name)

    def save(self, profile_name: str, document: Mapping[str, Any]) -> str:
        """Take over a storage_state; return a line for the person. Raises UnknownChild, ActionRefused."""
        trouble = self._trouble_of(profile_name)
        if trouble:  # the child could not start with it, and it is not to lose its place for that
            raise ActionRefused(f"the session store cannot take it ({trouble}); GET /ready says more in its warnings")
        if self._supervisor.renew(profile_name, document):
            return f"The login of {profile_name!r} is renewed, and its browser goes on with it."
        return f"The login of {profile_name!r} is renewed; its browser takes it at its next start."

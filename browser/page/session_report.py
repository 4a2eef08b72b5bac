"""What a child tells of the saving of its login's session: how often it was saved, and what keeps it from being."""

from __future__ import annotations

from contract.child_api import SessionReport


class SessionLog:
    """Counts the saves of one start."""

    def __init__(self) -> None:
        self.report = SessionReport()
        """As it stands now."""

    def found(self, saved_at: float | None) -> None:
        """Note that there is a saved session to go on with, of this time in Unix seconds if that is known."""
        self._set(saved_at=saved_at, trouble=None)

    def unusable(self, reason: str) -> None:
        """Note why there is a saved session that the browser does not get."""
        self._set(trouble=reason)

    def saved(self, now: float) -> None:
        """Note that the session was saved, at `now` in Unix seconds."""
        self._set(saves=self.report.saves + 1, saved_at=now, trouble=None)

    def failed(self, reason: str) -> None:
        """Note why the session could not be saved."""
        self._set(failures=self.report.failures + 1, trouble=reason)

    def _set(self, **changed: object) -> None:
        self.report = SessionReport(**{**vars(self.report), **changed})

"""When the login of one child expires, by what the child says, and when that is to be told: no I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

DAY_S: Final = 86_400.0
_LAST_TOLD_S: Final = 3600.0
"""Once it was told with so little left, it is not told again: what could be done has been, or has not."""


class LoginExpiry:
    """What is known of a login's end. Times are in Unix seconds.

    A login that its child refreshes in time (`kept`) may end soon at any time, which is no news.
    """

    def __init__(self, warning_days: float) -> None:
        """It is told from so many days before the end; 0 never does."""
        self._warning_s = warning_days * DAY_S
        self.expires_at: float | None = None
        self.kept = False
        self._told_left_s: float | None = None
        self._logged_at: float | None = None

    def learn(self, expires_at: float | None, *, kept: bool) -> None:
        """Take over what a ready child says."""
        if expires_at is not None and self.expires_at is not None:
            gained_s = expires_at - self.expires_at
            if gained_s > self._warning_s / 2:  # renewed, and not only prolonged by its use
                self._told_left_s = None
        self.expires_at, self.kept = expires_at, kept

    def is_near(self, now: float) -> bool:
        """Whether people are to be warned: the login ends within the days of the warning, or has ended."""
        return self.expires_at is not None and not self.kept and self.expires_at - now <= self._warning_s > 0

    def warning(self, now: float) -> str | None:
        """Return the warning in words, None where there is nothing to warn of."""
        if self.expires_at is None or not self.is_near(now):
            return None
        when = f"{datetime.fromtimestamp(self.expires_at, UTC):%Y-%m-%d %H:%M} UTC"
        days = (self.expires_at - now) / DAY_S
        if days <= 0:
            return f"the login expired on {when} by its cookies: renew it"
        return f"the login expires in {days:.1f} days, on {when}, by its cookies: renew it"

    def tell(self, now: float) -> bool:
        """Return whether the end is to be told now, and take down that it was.

        That is when it comes within the days of the warning, and again each time that half of what was left is over.
        A login that is prolonged by little and little, as a session that each use prolongs, is not told anew.
        """
        if self.expires_at is None or not self.is_near(now):
            if self.expires_at is not None and self.expires_at - now > self._warning_s:
                self._told_left_s = None
            return False
        left_s, told_s = self.expires_at - now, self._told_left_s
        if told_s is not None and (left_s > told_s / 2 or told_s <= _LAST_TOLD_S):
            return False
        self._told_left_s = left_s
        return True

    def log(self, now: float) -> bool:
        """Return whether the warning is to be logged now, and take down that it was: once a day at most."""
        if not self.is_near(now) or (self._logged_at is not None and now - self._logged_at < DAY_S):
            return False
        self._logged_at = now
        return True

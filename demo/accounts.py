"""Accounts and login sessions of the demo site."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

PASSWORDS = {"ada": "lovelace", "grace": "hopper"}
_NUMBERED = re.compile(r"user([1-9][0-9]{0,5})")

Kind = Literal["cookie", "bearer"]
LoginKind = Literal["cookie", "rotating", "refresh", "token", "database", "tab"]
CARRIED_BY: Final[dict[LoginKind, Kind]] = {
    "cookie": "cookie",
    "rotating": "cookie",
    "refresh": "cookie",
    "token": "bearer",
    "database": "bearer",
    "tab": "bearer",
}
"""The kinds of logins, and how requests carry each; demo/README.md explains them."""
REFRESH_TTL_S = 60.0


def check_password(username: str, password: str) -> bool:
    """Return whether the credentials are valid: those in PASSWORDS, and `userN` with the password `demoN`."""
    expected = PASSWORDS.get(username)
    if numbered := _NUMBERED.fullmatch(username):
        expected = f"demo{numbered[1]}"
    return expected is not None and hmac.compare_digest(expected.encode(), password.encode())


@dataclass(eq=False)
class Session:
    """One login of one account; its cookie or bearer header carries `token`. `expires_at` is Unix time in seconds.

    `previous` is a rotating login's last token, which is good until `token` has been used. `id` counts the sessions,
    `used` the requests of this one.
    """

    account: str
    kind: Kind
    token: str
    expires_at: float
    login: LoginKind = "cookie"
    previous: str | None = None
    id: int = 0
    used: int = 0
    welcome: Literal["shown", "deleted", "gone"] = "shown"


class Sessions:
    """All open sessions by token; a session lasts `ttl_s` seconds by `clock`, which returns Unix time.

    One that must be refreshed lasts `refresh_ttl_s` seconds from its last refresh.
    """

    def __init__(
        self, *, ttl_s: float, refresh_ttl_s: float = REFRESH_TTL_S, clock: Callable[[], float] = time.time
    ) -> None:
        self.ttl_s = ttl_s
        self.refresh_ttl_s = refresh_ttl_s
        self._clock = clock
        self._open: dict[str, Session] = {}
        self._spent: dict[str, Session] = {}
        self._last_id = 0
        self.reused = 0
        """How many sessions have ended because a spent token was used again."""
        self.resurrected = 0
        """How many requests had a cookie that the same browser had deleted."""

    def open(self, account: str, kind: Kind, login: LoginKind | None = None) -> Session:
        """Open and return a session; an account may have any number of them."""
        session = Session(
            account, kind, secrets.token_urlsafe(32), 0, login or ("cookie" if kind == "cookie" else "token")
        )
        session.expires_at = self._clock() + self.lasts_s(session)
        self._last_id += 1
        session.id = self._last_id
        self._open[session.token] = session
        return session

    def lasts_s(self, session: Session) -> float:
        """Return how long the session lasts from its start or its last refresh, in seconds."""
        return self.refresh_ttl_s if session.login == "refresh" else self.ttl_s

    def find(self, token: str, kind: Kind) -> Session | None:
        """Return the open session of this token, or None if it is unknown, expired or of another kind.

        The use of a rotating login's token spends the one before it; one that is spent ends the session.
        """
        if spent := self._spent.get(token):
            self.reused += self.is_open(spent)
            self.end(spent)
            return None
        session = self._open.get(token)
        if session is None or session.kind != kind or not self.is_open(session):
            return None
        session.used += 1
        if session.previous and token == session.token:
            self._spent[session.previous] = session
            del self._open[session.previous]
            session.previous = None
        return session

    def next_token(self, session: Session, used: str) -> str:
        """Return the token that follows the one just used: a new one, or again the last where that was not used yet."""
        if used == session.token:
            session.previous, session.token = used, secrets.token_urlsafe(32)
            self._open[session.token] = session
        return session.token

    def refresh(self, session: Session) -> None:
        """Let the session last anew from now on."""
        session.expires_at = self._clock() + self.lasts_s(session)

    def is_open(self, session: Session) -> bool:
        """Return whether the session was neither ended nor has expired."""
        return session.token in self._open and self._clock() < session.expires_at

    def view(self) -> list[dict[str, str | float]]:
        """Return the open sessions as JSON data, without their tokens."""
        found = {session.id: session for session in self._open.values() if self.is_open(session)}
        return [
            {name: getattr(session, name) for name in ("id", "account", "login", "expires_at", "used")}
            for session in found.values()
        ]

    def rotate(self, session: Session) -> None:
        """Give the session a new token and invalidate the old one."""
        self.end(session)
        session.token = secrets.token_urlsafe(32)
        self._open[session.token] = session

    def end(self, session: Session) -> None:
        """End the session; do nothing if it has ended before."""
        self._open.pop(session.token, None)
        self._open.pop(session.previous or "", None)

    def expire(self, account: str | None = None) -> int:
        """End every session of the account (None: of all accounts). Return how many were ended."""
        ended = {session for session in self._open.values() if account in (None, session.account)}
        for session in ended:
            self.end(session)
        return len(ended)

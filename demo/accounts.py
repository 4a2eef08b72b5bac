"""Accounts and login sessions of the demo site."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

PASSWORDS = {"ada": "lovelace", "grace": "hopper"}
_NUMBERED = re.compile(r"user([1-9][0-9]{0,5})")

Kind = Literal["cookie", "bearer"]


def check_password(username: str, password: str) -> bool:
    """Return whether the credentials are valid: those in PASSWORDS, and `userN` with the password `demoN`."""
    expected = PASSWORDS.get(username)
    if numbered := _NUMBERED.fullmatch(username):
        expected = f"demo{numbered[1]}"
    return expected is not None and hmac.compare_digest(expected.encode(), password.encode())


@dataclass(eq=False)
class Session:
    """One login of one account; its cookie or bearer header carries `token`. `expires_at` is Unix time in seconds."""

    account: str
    kind: Kind
    token: str
    expires_at: float


class Sessions:
    """All open sessions by token; a session lasts `ttl_s` seconds by `clock`, which returns Unix time."""

    def __init__(self, *, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        self.ttl_s = ttl_s
        self._clock = clock
        self._open: dict[str, Session] = {}

    def open(self, account: str, kind: Kind) -> Session:
        """Open and return a session; an account may have any number of them."""
        session = Session(account, kind, secrets.token_urlsafe(32), self._clock() + self.ttl_s)
        self._open[session.token] = session
        return session

    def find(self, token: str, kind: Kind) -> Session | None:
        """Return the open session of this token, or None if it is unknown, expired or of another kind."""
        session = self._open.get(token)
        return session if session and session.kind == kind and self.is_open(session) else None

    def is_open(self, session: Session) -> bool:
        """Return whether the session was neither ended nor has expired."""
        return session.token in self._open and self._clock() < session.expires_at

    def rotate(self, session: Session) -> None:
        """Give the session a new token and invalidate the old one."""
        self.end(session)
        session.token = secrets.token_urlsafe(32)
        self._open[session.token] = session

    def end(self, session: Session) -> None:
        """End the session; do nothing if it has ended before."""
        self._open.pop(session.token, None)

    def expire(self, account: str | None = None) -> int:
        """End every session of the account (None: of all accounts). Return how many were ended."""
        ended = [session for session in self._open.values() if account in (None, session.account)]
        for session in ended:
            self.end(session)
        return len(ended)

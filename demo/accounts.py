"""Who may log in, and which sessions are open."""

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
    """Tell whether this pair may log in: the table above, and `userN` with the password `demoN`."""
    expected = PASSWORDS.get(username)
    if numbered := _NUMBERED.fullmatch(username):
        expected = f"demo{numbered[1]}"
    return expected is not None and hmac.compare_digest(expected.encode(), password.encode())


@dataclass(eq=False)
class Session:
    """One login of one account; `token` is what its cookie or its bearer header carries."""

    account: str
    kind: Kind
    token: str
    expires_at: float


class Sessions:
    """All open sessions, held by the server: the browser only has the token."""

    def __init__(self, *, ttl_s: float, clock: Callable[[], float] = time.time) -> None:
        self.ttl_s = ttl_s
        self._clock = clock
        self._open: dict[str, Session] = {}

    def open(self, account: str, kind: Kind) -> Session:
        """Open a session that lasts `ttl_s` seconds; an account may have any number."""
        session = Session(account, kind, secrets.token_urlsafe(32), self._clock() + self.ttl_s)
        self._open[session.token] = session
        return session

    def find(self, token: str, kind: Kind) -> Session | None:
        """Return the open session of this token, or None if it is unknown, over or of another kind."""
        session = self._open.get(token)
        return session if session and session.kind == kind and self.is_open(session) else None

    def is_open(self, session: Session) -> bool:
        return session.token in self._open and self._clock() < session.expires_at

    def rotate(self, session: Session) -> None:
        """Give the session a new token; the old one is dead from here on."""
        self.end(session)
        session.token = secrets.token_urlsafe(32)
        self._open[session.token] = session

    def end(self, session: Session) -> None:
        self._open.pop(session.token, None)

    def expire(self, account: str | None = None) -> int:
        """End every session of the account (None: of everybody). Returns how many there were."""
        ended = [session for session in self._open.values() if account in (None, session.account)]
        for session in ended:
            self.end(session)
        return len(ended)

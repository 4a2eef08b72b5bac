"""What a valid profile says of its login, without its secrets: whose it is, and when it expires."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from pydantic_core import to_json

from contract.errors import BadProfile

if TYPE_CHECKING:  # see `ProfileSummary.of`
    from contract.storage_state.schema import Origin, StorageState

TOKEN_LENGTH: Final = 16
"""A stored value with fewer characters is a setting and not a token."""
NO_LOGIN: Final = ""
"""The fingerprint of a profile for a site without a login: any number of browsers may use such profiles at once."""


class CookieSummary(NamedTuple):
    """A cookie without its name and value.

    `host` is where it is sent; a dot in front makes it stand for all hosts below too. `expires` is in Unix
    seconds, None: when the browser closes.
    """

    host: str
    expires: float | None
    http_only: bool

    def reaches(self, host: str) -> bool:
        """Return whether requests to this host carry the cookie."""
        return host == self.host.lstrip(".") or (self.host.startswith(".") and host.endswith(self.host))

    def has_expired(self, now: float) -> bool:
        """Return whether it is over at `now`, in Unix seconds."""
        return self.expires is not None and self.expires <= now


@dataclass(frozen=True)
class ProfileSummary:
    """A valid profile, without its secrets.

    `fingerprint` is the same in two profiles of one login, and NO_LOGIN where there is none. `has_secrets` tells that
    the child can log in by itself, so that the profile does not expire.
    """

    cookies: tuple[CookieSummary, ...]
    holds_stored_token: bool
    fingerprint: str
    has_secrets: bool = False

    @classmethod
    def of(cls, document: Any) -> Self:
        """Check a JSON document and summarise it. Raises BadProfile with the first thing that is wrong."""
        # A tenth of a program's start, which it can do without where a cache has the summaries.
        from contract.storage_state.schema import validate  # noqa: PLC0415

        state = validate(document)
        tokens = _stored_values(state.origins, TOKEN_LENGTH)
        of_tabs = sorted(
            (tab.origin, item["name"], item["value"]) for tab in state.sessionStorage for item in tab.items
        )
        return cls(
            tuple(
                CookieSummary(cookie.host, None if cookie.expires == -1 else cookie.expires, cookie.httpOnly)
                for cookie in state.cookies
            ),
            bool(tokens) or any(len(value) >= TOKEN_LENGTH for _, _, value in of_tabs),
            _fingerprint(state, tokens if state.cookies else _stored_values(state.origins) or of_tabs),
            bool(state.secrets),
        )

    def expires_at(self, now: float, host: str | None = None) -> float | None:
        """Return when the login expires as far as its cookies say, in Unix seconds; None if none says so.

        That is the earliest expiry still to come among the cookies that scripts cannot read, a login's usual form,
        or among all where none of those has one. With `host` only cookies that reach it count. With secrets a login
        that is over is followed by the next.
        """
        if self.has_secrets:
            return None
        coming = [
            (cookie.expires, cookie.http_only)
            for cookie in self.cookies
            if cookie.expires is not None and cookie.expires > now and (host is None or cookie.reaches(host))
        ]
        of_server = [expires for expires, http_only in coming if http_only]
        return min(of_server or (expires for expires, _ in coming), default=None)

    def check_alive(self, now: float) -> None:
        """Raise BadProfile if every cookie has expired and no stored token could be the login."""
        if self.holds_stored_token or self.has_secrets or not self.cookies:
            return
        if all(cookie.has_expired(now) for cookie in self.cookies):
            last = max(cookie.expires or 0.0 for cookie in self.cookies)
            when = f"{datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M} UTC"
            raise BadProfile(f"has only expired cookies, the last since {when}; log in again and save it")

    def live_cookies(self, now: float) -> dict[str, int]:
        """Return how many cookies have not expired, by host, in the order of the hosts' names."""
        alive = (cookie.host.lstrip(".") for cookie in self.cookies if not cookie.has_expired(now))
        return dict(sorted(Counter(alive).items()))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, for a cache."""
        # Plain tuples, which pydantic's core writes in half the time of named ones.
        return {**vars(self), "cookies": list(map(tuple, self.cookies))}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_json` gave. Raises TypeError or LookupError for anything else."""
        return cls(**{**values, "cookies": tuple(starmap(CookieSummary, values["cookies"]))})


def _fingerprint(state: StorageState, stored: list[tuple[str, str, str]]) -> str:
    """Return the SHA-256 over what makes the login, of which `stored` is a part; NO_LOGIN where nothing does.

    Pages cannot set httpOnly cookies, so those are the server's own; where there are none, every cookie
    counts. Short stored values are settings, and count only where there is nothing else. What a site stores
    beside the login, such as an analytics cookie, so makes no other login of it. What a tab stores counts only where
    there is nothing else: pages number their tabs. Secrets alone tell whose login it is: what the browser holds is
    another with each time that they are used.
    """
    if state.is_empty:
        return NO_LOGIN
    if state.secrets:
        return hashlib.sha256(to_json(sorted(state.secrets.items()))).hexdigest()
    of_server = [cookie for cookie in state.cookies if cookie.httpOnly]
    logins = sorted((c.host.lstrip("."), c.path, c.name, c.value) for c in of_server or state.cookies)
    return hashlib.sha256(to_json([logins, stored])).hexdigest()


def _stored_values(origins: Iterable[Origin], least_length: int = 0) -> list[tuple[str, str, str]]:
    values = [(origin.origin, item["name"], item["value"]) for origin in origins for item in origin.localStorage]
    values += [
        (origin.origin, "", json.dumps([database.model_dump() for database in origin.indexedDB], sort_keys=True))
        for origin in origins
        if origin.indexedDB
    ]
    return sorted(value for value in values if len(value[2]) >= least_length)

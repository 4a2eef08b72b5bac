"""Is it a Playwright storage_state that a browser will load, and whose login is it?

The form is that of https://playwright.dev/python/docs/api/class-browsercontext#browser-context-storage-state.
What browsers refuse was tried on Chromium 156 and Firefox ESR 153.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from contract.storage_state.cookies import check_cookie
from contract.storage_state.origins import check_origin
from contract.storage_state.parsing import parse_document
from contract.storage_state.reasons import BadProfile, kind

if TYPE_CHECKING:
    from collections.abc import Iterable

TOKEN_LENGTH: Final = 16
"""A stored value with fewer characters is a setting and not a token."""


@dataclass(frozen=True)
class StorageState:
    """A valid profile, without its secrets.

    `sites` and `expiries` have an item for each cookie: its site, and its expiry in Unix seconds (None: when
    the browser closes).
    """

    sites: tuple[str, ...]
    expiries: tuple[float | None, ...]
    holds_stored_token: bool
    fingerprint: str

    def cookies_alive(self, now: float) -> dict[str, int]:
        """How many cookies have not expired, by site, in the order of the sites' names."""
        alive = (site for site, expires in zip(self.sites, self.expiries, strict=True) if not _is_over(expires, now))
        return dict(sorted(Counter(alive).items()))

    def earliest_expiry(self, now: float) -> float | None:
        """The earliest expiry still to come, in Unix seconds."""
        return min((expires for expires in self.expiries if expires and expires > now), default=None)

    def check_alive(self, now: float) -> None:
        """Raise BadProfile if every cookie has expired and no stored token could be the login."""
        if self.holds_stored_token or not self.expiries:
            return
        if all(_is_over(expires, now) for expires in self.expiries):
            last = max(expires or 0.0 for expires in self.expiries)
            when = f"{datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M} UTC"
            raise BadProfile(f"has only expired cookies, the last since {when}; log in again and save it")


def read_storage_state(data: bytes) -> StorageState:
    """Check the bytes of a profile. Raises BadProfile with the first thing that is wrong."""
    document = parse_document(data)
    if not isinstance(document, dict):
        raise BadProfile(f"is {kind(document)}, not an object with cookies and origins")
    if "cookies" not in document and "origins" not in document:
        raise BadProfile("has neither cookies nor origins: it is not a Playwright storage_state")
    cookies, origins = _list(document, "cookies"), _list(document, "origins")
    for index, cookie in enumerate(cookies):
        check_cookie(f"cookies[{index}]", cookie)
    for index, origin in enumerate(origins):
        check_origin(f"origins[{index}]", origin)
    if not cookies and not any(origin["localStorage"] or origin.get("indexedDB") for origin in origins):
        raise BadProfile("holds no cookie and no stored value: it was saved before the login")
    return StorageState(
        sites=tuple(_site(cookie) for cookie in cookies),
        expiries=tuple(_expiry(cookie) for cookie in cookies),
        holds_stored_token=bool(_stored(origins, TOKEN_LENGTH)),
        fingerprint=_fingerprint(cookies, origins),
    )


def _list(document: dict[str, Any], field: str) -> list[Any]:
    value = document.get(field, [])
    if not isinstance(value, list):
        raise BadProfile(f"{field} is {kind(value)}, not a list")
    return value


def _site(cookie: dict[str, Any]) -> str:
    domain = cookie.get("domain") or urlsplit(cookie["url"]).hostname or ""
    return str(domain).lstrip(".")


def _expiry(cookie: dict[str, Any]) -> float | None:
    expires = cookie.get("expires", -1)
    return None if expires == -1 else float(expires)


def _is_over(expires: float | None, now: float) -> bool:
    return expires is not None and expires <= now


def _stored(origins: Iterable[dict[str, Any]], least_length: int) -> list[tuple[str, str, str]]:
    values = [(origin["origin"], item["name"], item["value"]) for origin in origins for item in origin["localStorage"]]
    values += [
        (origin["origin"], "", json.dumps(origin["indexedDB"], sort_keys=True))
        for origin in origins
        if origin.get("indexedDB")
    ]
    return sorted(value for value in values if len(value[2]) >= least_length)


def _fingerprint(cookies: list[dict[str, Any]], origins: list[dict[str, Any]]) -> str:
    """The SHA-256 over what makes the login.

    Pages cannot set httpOnly cookies, so those are the server's own; where there are none, every cookie
    counts. Short stored values are settings, and count only where there is nothing else.
    """
    of_server = [cookie for cookie in cookies if cookie.get("httpOnly")]
    logins = sorted((_site(c), c.get("path", ""), c["name"], c["value"]) for c in of_server or cookies)
    stored = _stored(origins, TOKEN_LENGTH if logins else 0)
    return hashlib.sha256(json.dumps([logins, stored]).encode()).hexdigest()

"""Storage states to test with; every value in them is made up."""

from __future__ import annotations

import json
from typing import Any

YEAR_2100 = 4102444800
NULL = object()


def cookie(**changes: Any) -> dict[str, Any]:
    """A valid cookie with changes; a change to None leaves the field out, one to NULL makes it null."""
    full = {
        "name": "session",
        "value": "0123456789abcdef0123",
        "domain": "chat.example.com",
        "path": "/",
        "expires": YEAR_2100,
        "httpOnly": True,
        "secure": True,
        "sameSite": "Lax",
        **changes,
    }
    return {field: None if value is NULL else value for field, value in full.items() if value is not None}


def origin(**changes: Any) -> dict[str, Any]:
    """A valid origin with one setting in it, with changes; a change to None leaves the field out."""
    full = {"origin": "https://chat.example.com", "localStorage": [{"name": "theme", "value": "dark"}], **changes}
    return {field: value for field, value in full.items() if value is not None}


def state(*cookies: Any, origins: Any = ()) -> bytes:
    """A profile's bytes with these cookies and origins."""
    return json.dumps({"cookies": list(cookies), "origins": list(origins)}).encode()


def login(user: str, **changes: Any) -> bytes:
    """A valid profile of a user; each user has a login of his own."""
    return state(cookie(value=f"token-of-{user}-0123456789", **changes))

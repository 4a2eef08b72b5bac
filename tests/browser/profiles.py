"""Profiles for the demo site, as a browser would have saved them after a login."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from demo.site import DemoSite


def no_login() -> dict[str, Any]:
    """What a browser keeps of a site that asks for no login, where the site file does not say so (login.none)."""
    return {"cookies": [login_cookie("1", -1) | {"name": "setting"}], "origins": []}


def cookie_state(site: DemoSite, account: str = "ada") -> dict[str, Any]:
    session = site.sessions.open(account, "cookie")
    return {"cookies": [login_cookie(session.token, session.expires_at)], "origins": []}


def login_cookie(token: str, expires: float) -> dict[str, Any]:
    return {
        "name": "demo_session",
        "value": token,
        "domain": "127.0.0.1",
        "path": "/",
        "expires": expires,
        "httpOnly": True,
        "secure": False,
        "sameSite": "Lax",
    }


def local_storage_state(site: DemoSite, account: str = "ada") -> dict[str, Any]:
    session = site.sessions.open(account, "bearer")
    return {
        "cookies": [],
        "origins": [{"origin": site.url, "localStorage": [{"name": "demo_token", "value": session.token}]}],
    }


def write_profile(path: Path, state: dict[str, Any]) -> Path:
    path.write_text(json.dumps(state))
    return path

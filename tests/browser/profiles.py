"""Profiles for the demo site, as a browser would have saved them after a login."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from demo.accounts import CARRIED_BY, LoginKind

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


def kind_state(site: DemoSite, kind: LoginKind, account: str = "ada") -> dict[str, Any]:
    """Open a session of this kind, and return what a browser would have saved of it."""
    session = site.sessions.open(account, CARRIED_BY[kind], kind)
    return state_of(kind, site.url, session.token, session.expires_at)


def state_of(kind: LoginKind, url: str, token: str, expires: float) -> dict[str, Any]:
    """What a browser saves of a login of this kind with this token; `expires` is in Unix seconds."""
    if CARRIED_BY[kind] == "cookie":
        welcome = login_cookie("1", expires) | {"name": "demo_welcome", "httpOnly": False}
        return {"cookies": [login_cookie(token, expires), *([] if kind == "cookie" else [welcome])], "origins": []}
    kept = [{"name": "demo_token", "value": token}]
    if kind == "tab":
        return {"cookies": [], "origins": [], "sessionStorage": [{"origin": url, "items": kept}]}
    store = {"name": "tokens", "keyPath": "id", "autoIncrement": False, "indexes": []}
    stores = [store | {"records": [{"value": {"id": "me", "token": token}}]}]
    stored = {
        "localStorage": kept if kind == "token" else [],
        **({"indexedDB": [{"name": "demo", "version": 1, "stores": stores}]} if kind == "database" else {}),
    }
    return {"cookies": [], "origins": [{"origin": url, **stored}]}


def write_profile(path: Path, state: dict[str, Any]) -> Path:
    path.write_text(json.dumps(state))
    return path

"""Helpers of all routes: the session of a request, and errors as JSON."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from aiohttp import web

from demo.accounts import Session, Sessions
from demo.faults import Faults

COOKIE = "demo_session"
WELCOME = "demo_welcome"
"""A cookie that a login at /rotating/ or /refresh/ comes with, and that its first prompt deletes."""
NEW_COOKIES = web.RequestKey("new_cookies", list[str])
_ROTATE_AT = ("/rotating/chat", "/any/chat", "/api/chat")

_STATUS: dict[int, type[web.HTTPException]] = {
    400: web.HTTPBadRequest,
    401: web.HTTPUnauthorized,
    404: web.HTTPNotFound,
    409: web.HTTPConflict,
    415: web.HTTPUnsupportedMediaType,
    500: web.HTTPInternalServerError,
}


def error_event(code: str, message: str) -> dict[str, str]:
    """Return an error as the event, or response body, that the page shows."""
    return {"type": "error", "code": code, "message": message}


def abort(status: int, code: str, message: str) -> NoReturn:
    """Raise the HTTP exception of this status, with an error that the page can show."""
    raise _STATUS[status](text=json.dumps(error_event(code, message)), content_type="application/json")


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the JSON object in the body. Respond 415 for another content type and 400 for invalid JSON."""
    if request.content_type != "application/json":
        abort(415, "bad_request", "The content type must be application/json.")
    try:
        data = await request.json()
    except ValueError:
        abort(400, "bad_request", "The body is not JSON.")
    if not isinstance(data, dict):
        abort(400, "bad_request", "The body is not a JSON object.")
    return data


class Authenticator:
    """Find the session of a request: by its Authorization header if it has one, else by its cookie."""

    def __init__(self, sessions: Sessions, faults: Faults) -> None:
        self._sessions = sessions
        self._faults = faults

    def session(self, request: web.Request) -> Session | None:
        """Return the request's open session or None; rotate its token if its kind, or a fault, asks for it."""
        if header := request.headers.get("Authorization"):
            return self.bearer(header.removeprefix("Bearer "))
        used = request.cookies.get(COOKIE, "")
        session = self._sessions.find(used, "cookie")
        if session is None:
            return None
        self._note_welcome(request, session)
        if self._faults.rotates(session.account):
            self._sessions.rotate(session)
            self.set_cookie(request, session)
        elif session.login == "rotating" and request.path in _ROTATE_AT:
            self._sessions.next_token(session, used)
            self.set_cookie(request, session)
        return session

    def set_cookie(self, request: web.Request, session: Session) -> None:
        """Send the session's cookie with the response to this request."""
        new = request.setdefault(NEW_COOKIES, [])
        new.append(cookie_header(session.token, self._sessions.lasts_s(session)))

    def _note_welcome(self, request: web.Request, session: Session) -> None:
        """Delete the welcome cookie at the first prompt, and count the requests that bring it back."""
        if WELCOME not in request.cookies:
            session.welcome = "gone" if session.welcome == "deleted" else session.welcome
            return
        self._sessions.resurrected += session.welcome == "gone"
        if request.path == "/api/chat":
            session.welcome = "deleted"
            request.setdefault(NEW_COOKIES, []).append(f"{WELCOME}=; Max-Age=0; Path=/; SameSite=Lax")

    def bearer(self, token: str) -> Session | None:
        """Return the open session of a bearer token, or None."""
        return self._sessions.find(token, "bearer")

    def require(self, request: web.Request) -> Session:
        """Return the request's open session. Respond 401 if there is none."""
        return self.session(request) or abort(401, "login_required", "Your session has expired. Log in again.")


def cookie_header(token: str, max_age_s: float) -> str:
    """Return the Set-Cookie value of a session."""
    return f"{COOKIE}={token}; Max-Age={int(max_age_s)}; Path=/; HttpOnly; SameSite=Lax"


def welcome_header(max_age_s: float) -> str:
    """Return the Set-Cookie value of the welcome cookie."""
    return f"{WELCOME}=1; Max-Age={int(max_age_s)}; Path=/; SameSite=Lax"

"""Helpers of all routes: the session of a request, and errors as JSON."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from aiohttp import web

from demo.accounts import Session, Sessions
from demo.faults import Faults

COOKIE = "demo_session"
NEW_COOKIE = web.RequestKey("new_cookie", str)

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
        """Return the request's open session or None; rotate its token if a fault asks for it."""
        if header := request.headers.get("Authorization"):
            return self.bearer(header.removeprefix("Bearer "))
        session = self._sessions.find(request.cookies.get(COOKIE, ""), "cookie")
        if session and self._faults.rotates(session.account):
            self._sessions.rotate(session)
            request[NEW_COOKIE] = session.token
        return session

    def bearer(self, token: str) -> Session | None:
        """Return the open session of a bearer token, or None."""
        return self._sessions.find(token, "bearer")

    def require(self, request: web.Request) -> Session:
        """Return the request's open session. Respond 401 if there is none."""
        return self.session(request) or abort(401, "login_required", "Your session has expired. Log in again.")


def cookie_header(token: str, max_age_s: float) -> str:
    """Return the Set-Cookie value of a session."""
    return f"{COOKIE}={token}; Max-Age={int(max_age_s)}; Path=/; HttpOnly; SameSite=Lax"

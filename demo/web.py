"""What the routes share: the session of a request, and errors as JSON for the page."""

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
    return {"type": "error", "code": code, "message": message}


def refuse(status: int, code: str, message: str) -> NoReturn:
    """Answer with an error the page can show. Raises the HTTP exception of that status."""
    raise _STATUS[status](text=json.dumps(error_event(code, message)), content_type="application/json")


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the JSON object a request carries; refuses other content (415) and broken JSON (400)."""
    if request.content_type != "application/json":
        refuse(415, "bad_request", "The content type must be application/json.")
    try:
        data = await request.json()
    except ValueError:
        refuse(400, "bad_request", "The body is not JSON.")
    if not isinstance(data, dict):
        refuse(400, "bad_request", "The body is not a JSON object.")
    return data


class Gate:
    """Finds out who is asking: by cookie, or by bearer header where there is one."""

    def __init__(self, sessions: Sessions, faults: Faults) -> None:
        self._sessions = sessions
        self._faults = faults

    def session(self, request: web.Request) -> Session | None:
        """Return the request's open session, with a new cookie on its way if sessions rotate now."""
        if header := request.headers.get("Authorization"):
            return self.bearer(header.removeprefix("Bearer "))
        session = self._sessions.find(request.cookies.get(COOKIE, ""), "cookie")
        if session and self._faults.rotates(session.account):
            self._sessions.rotate(session)
            request[NEW_COOKIE] = session.token
        return session

    def bearer(self, token: str) -> Session | None:
        return self._sessions.find(token, "bearer")

    def require(self, request: web.Request) -> Session:
        """Return the request's session. Raises 401 without one."""
        return self.session(request) or refuse(401, "login_required", "Your session has expired. Log in again.")


def cookie_header(token: str, max_age_s: float) -> str:
    return f"{COOKIE}={token}; Max-Age={int(max_age_s)}; Path=/; HttpOnly; SameSite=Lax"

"""`/login/TOKEN`: the page on which a person sees a browser of the fleet and logs in, and what it asks for.

Plain HTTP, which every proxy passes on. The page asks for the next picture when it has drawn the one before, so that a
slow line has fewer pictures and not later ones; a stream would fill buffers on the way with pictures that are old by
the time they are seen. Input comes in one POST after the other.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from contract.api_error import ApiError, ErrorCode
from contract.remote_login import MAX_INPUT_BYTES, PICTURE_HEADER, STATE_HEADER, LoginPhase
from coordinator.logins.child import ChildSilent, Picture
from coordinator.logins.remote import Login, RemoteLogins

log = structlog.get_logger(__name__)

COOKIE: Final = "tabfleet_login"
ASSETS: Final = {"login.js": "text/javascript", "login.css": "text/css"}
HEADERS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
}
_OVER: Final = "This link has been used, or is too old. Ask for a new one."
_NO_ANSWER_PAUSE_S: Final = 0.3


class LoginPages:
    """The ASGI application below `/login`."""

    def __init__(self, logins: RemoteLogins) -> None:
        self._logins = logins
        folder = Path(__file__).with_name("page")
        self._files = {name: (folder / name).read_bytes() for name in ("login.html", *ASSETS)}
        self.router = Router(
            [
                Route("/assets/{name}", self.asset),
                Route("/{token}", self.page),
                Route("/{token}/open", self.open, methods=["POST"]),
                Route("/{token}/picture", self.picture),
                Route("/{token}/input", self.input, methods=["POST"]),
                Route("/{token}/done", self.done, methods=["POST"]),
                Route("/{token}/cancel", self.cancel, methods=["POST"]),
                Route("/{token}/profile", self.profile),
            ],
            redirect_slashes=False,
        )

    async def page(self, _: Request) -> Response:
        """Return the page, which shows nothing by itself: what reads links ahead of people must not use this one up."""
        return Response(self._files["login.html"], headers=HEADERS, media_type="text/html")

    async def asset(self, request: Request) -> Response:
        """Return the page's script or its style."""
        name = request.path_params["name"]
        if name not in ASSETS:
            raise HTTPException(404)
        return Response(self._files[name], headers=HEADERS, media_type=ASSETS[name])

    async def open(self, request: Request) -> Response:
        """Use up the link, and give a cookie to whoever opened it first. Raises ApiError: 403, 410."""
        check_same_origin(request)
        login = self._logins.find(request.path_params["token"])
        cookie = self._logins.open(login) if login else None
        if cookie is None:
            raise _over(login)
        response = Response(status_code=204, headers=HEADERS)
        response.set_cookie(
            COOKIE,
            cookie,
            path=request.url.path.removesuffix("/open"),
            # A proxy that ends TLS asks us by http; the page's origin tells how the browser came.
            secure=request.headers["origin"].startswith("https://"),
            httponly=True,
            samesite="strict",
        )
        return response

    async def picture(self, request: Request) -> Response:
        """Return the newest picture as soon as it, or the state, is newer than what the page has."""
        login = self._of(request)
        shown = await self._shown(login, *(_number(request, name) for name in ("picture", "state")))
        headers = {**HEADERS, STATE_HEADER: shown.state.to_json(), PICTURE_HEADER: str(shown.number)}
        if not shown.jpeg:
            return Response(status_code=204, headers=headers)
        return Response(shown.jpeg, headers=headers, media_type="image/jpeg")

    async def _shown(self, login: Login, picture: int, state: int) -> Picture:
        if login.child is not None and not login.told.is_set():
            try:
                shown = await login.child.picture(picture, state)
            except ChildSilent:  # it has not begun to listen, or has just ended
                await asyncio.sleep(_NO_ANSWER_PAUSE_S)
            else:
                # What the child calls saved is in nobody's hands yet.
                if shown.state.phase in (LoginPhase.OPENING, LoginPhase.OPEN, LoginPhase.TRYING):
                    return shown
                await login.told.wait()
        return Picture(login.state)

    async def input(self, request: Request) -> Response:
        """Pass on what the person did. Nothing here reads it, for it may be a password."""
        check_same_origin(request)
        login, body = self._of(request), bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_INPUT_BYTES:
                message = f"The input is larger than {MAX_INPUT_BYTES} bytes; paste less at a time."
                raise ApiError(ErrorCode.BODY_TOO_LARGE, message)
        if login.child is not None and not login.told.is_set():
            try:
                understood = await login.child.act(bytes(body))
            except ChildSilent:
                understood = True  # what was done to a browser that is just starting or ending is lost
            if not understood:
                raise ApiError(ErrorCode.INVALID_REQUEST, "This is no input.")
        return Response(status_code=204, headers=HEADERS)

    async def done(self, request: Request) -> Response:
        """Have the browser say whether it is logged in; the state tells."""
        check_same_origin(request)
        login = self._of(request)
        if login.child is not None and not login.told.is_set():
            try:
                await login.child.done()
            except ChildSilent:
                log.debug("login_child_silent", profile=login.profile)
        return Response(status_code=204, headers=HEADERS)

    async def cancel(self, request: Request) -> Response:
        """End it; nothing is saved."""
        check_same_origin(request)
        self._of(request).end(LoginPhase.CANCELLED, "you have cancelled it; nothing was saved")
        return Response(status_code=204, headers=HEADERS)

    async def profile(self, request: Request) -> Response:
        """Return the login as a file, where that was asked for."""
        login = self._of(request)
        if login.document is None:
            raise HTTPException(404)
        log.info("login_downloaded", profile=login.profile, by=login.by)
        headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(login.profile, safe='')}.json"}
        return Response(login.document, headers=HEADERS | headers, media_type="application/json")

    def _of(self, request: Request) -> Login:
        """Return the login of whoever has opened the link. Raises ApiError: 401 before anybody has, 403, 410."""
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise _foreign()
        login = self._logins.find(request.path_params["token"])
        if login is None:
            raise _over(login)
        if login.is_opened_by(request.cookies.get(COOKIE)):
            self._logins.saw(login)
            return login
        if login.cookie is None and not login.told.is_set():
            raise ApiError(ErrorCode.HTTP_ERROR, "Open the link first.", status=401)
        raise _over(login)


def check_same_origin(request: Request) -> None:
    """Raise ApiError (403) unless a script of our own page sends this.

    The Origin header must name the host that the Host header names: https://fetch.spec.whatwg.org/#origin-header. Where
    the browser says itself whose page it is, it has to be ours: https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header.
    """
    try:
        origin = urlsplit(request.headers.get("origin", ""))
    except ValueError:  # such as http://[
        raise _foreign() from None
    is_ours = origin.scheme in ("http", "https") and origin.netloc.lower() == request.headers.get("host", "").lower()
    if not is_ours or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise _foreign()


def _foreign() -> ApiError:
    log.warning("login_refused", reason="foreign_origin")
    message = "This is for the login page's own script; a proxy in front must pass the Host header on as it is."
    return ApiError(ErrorCode.HTTP_ERROR, message, status=403)


def _over(login: Login | None) -> ApiError:
    log.warning("login_refused", reason="link_used", profile=login.profile if login else None)
    return ApiError(ErrorCode.HTTP_ERROR, _OVER, status=410)


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 18 else -1

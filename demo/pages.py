"""The HTML routes: login by cookie and by token, the chat page of each, and static files."""

from __future__ import annotations

import html
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from demo.accounts import Sessions, check_password
from demo.chat import MODELS
from demo.web import COOKIE, NEW_COOKIE, Authenticator, abort, cookie_header, read_json

STATIC = Path(__file__).parent / "static"
WRONG = "Wrong username or password."
_CSP = "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


class PageRoutes:
    """Serve two variants: `/login` and `/chat` keep the session in a cookie, `/token/...` in localStorage."""

    def __init__(self, authenticator: Authenticator, sessions: Sessions, *, strict_csp: bool) -> None:
        self._authenticator = authenticator
        self._sessions = sessions
        connect = "'self'" if strict_csp else "*"
        self._csp = f"{_CSP}; connect-src {connect}"

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes to add to the application."""
        return [
            web.get("/", self.home),
            web.get("/login", self.login_page),
            web.post("/login", self.log_in),
            web.post("/logout", self.log_out),
            web.get("/chat", self.chat_page),
            web.get("/token/login", self.token_login_page),
            web.post("/token/login", self.token_log_in),
            web.post("/token/logout", self.token_log_out),
            web.get("/token/chat", self.token_chat_page),
            web.static("/static", STATIC),
        ]

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add security headers, and the new cookie of a rotated session. An `on_response_prepare` handler."""
        response.headers["Content-Security-Policy"] = self._csp
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-cache" if request.path.startswith("/static") else "no-store")
        if NEW_COOKIE in request:
            response.headers.add("Set-Cookie", cookie_header(request[NEW_COOKIE], self._sessions.ttl_s))

    async def home(self, _: web.Request) -> web.Response:
        """Redirect to the chat page."""
        raise web.HTTPFound("/chat")

    async def login_page(self, request: web.Request) -> web.Response:
        """Return the login form, or redirect if there is a session."""
        if self._authenticator.session(request):
            raise web.HTTPFound(_next(request))
        return _login_html("cookie")

    async def log_in(self, request: web.Request) -> web.Response:
        """Open a session and redirect with its cookie, or return the form again with 401."""
        form = await request.post()
        username = str(form.get("username", "")).strip()
        if not check_password(username, str(form.get("password", ""))):
            return _login_html("cookie", username=username, notice=WRONG, status=401)
        session = self._sessions.open(username, "cookie")
        response = web.HTTPSeeOther(_next(request))
        response.headers.add("Set-Cookie", cookie_header(session.token, self._sessions.ttl_s))
        raise response

    async def log_out(self, request: web.Request) -> web.Response:
        """End the session and redirect to the login form."""
        if session := self._authenticator.session(request):
            self._sessions.end(session)
        response = web.HTTPSeeOther("/login")
        response.del_cookie(COOKIE)
        raise response

    async def chat_page(self, request: web.Request) -> web.Response:
        """Return the chat page, or redirect to the login form."""
        session = self._authenticator.session(request)
        if session is None:
            raise web.HTTPFound(f"/login?next={quote(request.path_qs)}")
        return _chat_html("cookie", session.account)

    async def token_login_page(self, _: web.Request) -> web.Response:
        """Return the login form whose script posts JSON."""
        return _login_html("token")

    async def token_log_in(self, request: web.Request) -> web.Response:
        """Open a session and return its bearer token, or 401."""
        data = await read_json(request)
        username = str(data.get("username", "")).strip()
        if not check_password(username, str(data.get("password", ""))):
            abort(401, "wrong_password", WRONG)
        session = self._sessions.open(username, "bearer")
        return web.json_response({"token": session.token, "account": session.account, "expires_at": session.expires_at})

    async def token_log_out(self, request: web.Request) -> web.Response:
        """End the session of the bearer token."""
        self._sessions.end(self._authenticator.require(request))
        return web.json_response({})

    async def token_chat_page(self, _: web.Request) -> web.Response:
        """Return the chat page whose script reads the token; it redirects by script if there is none."""
        return _chat_html("token", "")


def _next(request: web.Request) -> str:
    # Only our own page: anything else would be an open redirect.
    target = request.query.get("next", "")
    return target if target == "/chat" or target.startswith("/chat?") else "/chat"


def _login_html(variant: str, *, username: str = "", notice: str = "", status: int = 200) -> web.Response:
    return _page("login.html", status, variant=variant, username=username, notice=notice)


def _chat_html(variant: str, account: str) -> web.Response:
    return _page("chat.html", 200, variant=variant, account=account, models=" ".join(MODELS))


def _page(name: str, status: int, **values: str) -> web.Response:
    text = (STATIC / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", html.escape(value))
    return web.Response(text=text, status=status, content_type="text/html")

"""The HTML routes: login by cookie and by token, the chat page of each, and static files."""

from __future__ import annotations

import html
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from demo.accounts import CARRIED_BY, LoginKind, Sessions, check_password
from demo.chat import MODELS
from demo.web import COOKIE, NEW_COOKIES, Authenticator, abort, cookie_header, read_json, welcome_header

STATIC = Path(__file__).parent / "static"
WRONG = "Wrong username or password."
_CSP = "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


class PageRoutes:
    """Serve the pages of each kind of login below a path of its own: `/token/login`, `/token/chat`.

    Those of a plain cookie are `/login` and `/chat`. `/any/chat` takes a login of any kind.
    """

    def __init__(self, authenticator: Authenticator, sessions: Sessions, *, strict_csp: bool) -> None:
        self._authenticator = authenticator
        self._sessions = sessions
        connect = "'self'" if strict_csp else "*"
        self._csp = f"{_CSP}; connect-src {connect}"

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes to add to the application."""
        routes: list[web.AbstractRouteDef] = [
            web.get("/", self.home),
            web.post("/logout", self.log_out),
            web.post("/token/logout", self.token_log_out),
            web.get("/any/chat", self.any_chat_page),
            web.post("/api/refresh", self.refresh),
            web.static("/static", STATIC),
        ]
        for kind, carried_by in CARRIED_BY.items():
            by_cookie = carried_by == "cookie"
            routes += [
                web.get(login_path(kind), self.login_page if by_cookie else self.token_login_page),
                web.post(login_path(kind), self.log_in if by_cookie else self.token_log_in),
                web.get(chat_path(kind), self.chat_page if by_cookie else self.token_chat_page),
            ]
        return routes

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add security headers, and the new cookies of the session. An `on_response_prepare` handler."""
        response.headers["Content-Security-Policy"] = self._csp
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-cache" if request.path.startswith("/static") else "no-store")
        for cookie in request.get(NEW_COOKIES, ()):
            response.headers.add("Set-Cookie", cookie)

    async def home(self, _: web.Request) -> web.Response:
        """Redirect to the chat page."""
        raise web.HTTPFound("/chat")

    async def login_page(self, request: web.Request) -> web.Response:
        """Return the login form, or redirect if there is a session."""
        if self._authenticator.session(request):
            raise web.HTTPFound(_next(request))
        return _login_html(_kind(request))

    async def log_in(self, request: web.Request) -> web.Response:
        """Open a session and redirect with its cookie, or return the form again with 401."""
        form = await request.post()
        username = str(form.get("username", "")).strip()
        if not check_password(username, str(form.get("password", ""))):
            return _login_html(_kind(request), username=username, notice=WRONG, status=401)
        session = self._sessions.open(username, "cookie", _kind(request))
        response = web.HTTPSeeOther(_next(request))
        lasts_s = self._sessions.lasts_s(session)
        response.headers.add("Set-Cookie", cookie_header(session.token, lasts_s))
        if session.login != "cookie":
            response.headers.add("Set-Cookie", welcome_header(lasts_s))
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
            raise web.HTTPFound(f"{login_path(_kind(request))}?next={quote(request.path_qs)}")
        return _chat_html(session.login, session.account)

    async def any_chat_page(self, request: web.Request) -> web.Response:
        """Return the chat page of the request's session; without one its script looks for a token in every storage."""
        session = self._authenticator.session(request)
        return _chat_html(session.login, session.account) if session else _chat_html("any", "")

    async def refresh(self, request: web.Request) -> web.Response:
        """Let the session last anew, and its cookie with it; return when it expires, in Unix seconds."""
        session = self._authenticator.require(request)
        self._sessions.refresh(session)
        if session.kind == "cookie":
            self._authenticator.set_cookie(request, session)
        return web.json_response({"expires_at": session.expires_at})

    async def token_login_page(self, request: web.Request) -> web.Response:
        """Return the login form whose script posts JSON."""
        return _login_html(_kind(request))

    async def token_log_in(self, request: web.Request) -> web.Response:
        """Open a session and return its bearer token, or 401."""
        data = await read_json(request)
        username = str(data.get("username", "")).strip()
        if not check_password(username, str(data.get("password", ""))):
            abort(401, "wrong_password", WRONG)
        session = self._sessions.open(username, "bearer", _kind(request))
        return web.json_response({"token": session.token, "account": session.account, "expires_at": session.expires_at})

    async def token_log_out(self, request: web.Request) -> web.Response:
        """End the session of the bearer token."""
        self._sessions.end(self._authenticator.require(request))
        return web.json_response({})

    async def token_chat_page(self, request: web.Request) -> web.Response:
        """Return the chat page whose script reads the token; it redirects by script if there is none."""
        return _chat_html(_kind(request), "")


def login_path(kind: LoginKind) -> str:
    """Return the path of the kind's login page."""
    return "/login" if kind == "cookie" else f"/{kind}/login"


def chat_path(kind: LoginKind) -> str:
    """Return the path of the kind's chat page."""
    return "/chat" if kind == "cookie" else f"/{kind}/chat"


def _kind(request: web.Request) -> LoginKind:
    return next((kind for kind in CARRIED_BY if request.path.startswith(f"/{kind}/")), "cookie")


def _next(request: web.Request) -> str:
    # Only our own page: anything else would be an open redirect.
    target, page = request.query.get("next", ""), chat_path(_kind(request))
    return target if target == page or target.startswith(f"{page}?") else page


def _login_html(variant: str, *, username: str = "", notice: str = "", status: int = 200) -> web.Response:
    return _page("login.html", status, variant=variant, username=username, notice=notice)


def _chat_html(variant: str, account: str) -> web.Response:
    return _page("chat.html", 200, variant=variant, account=account, models=" ".join(MODELS))


def _page(name: str, status: int, **values: str) -> web.Response:
    text = (STATIC / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"{{{{{key}}}}}", html.escape(value))
    return web.Response(text=text, status=status, content_type="text/html")

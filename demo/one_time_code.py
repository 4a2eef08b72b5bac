"""A login with a password and then a one-time code, as sites send it to a phone; `/code/inbox/ACCOUNT` is the phone."""

from __future__ import annotations

import html
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from demo.accounts import Sessions, check_password
from demo.web import COOKIE, cookie_header

STATIC = Path(__file__).parent / "static"
DIGITS = 6
TRIES = 3


@dataclass
class _Asked:
    """A right password whose code has not come yet."""

    account: str
    code: str = field(default_factory=lambda: f"{secrets.randbelow(10**DIGITS):0{DIGITS}}")
    tries: int = TRIES


class CodeRoutes:
    """Serve `/code/login` in two steps; `/code/chat` leads to it, or to the chat page of who has a session."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._asked: dict[str, _Asked] = {}
        self._inbox: dict[str, str] = {}

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes to add to the application."""
        return [
            web.get("/code/chat", self.chat),
            web.get("/code/login", self.login_page),
            web.post("/code/login", self.check_password),
            web.post("/code/verify", self.check_code),
            web.get("/code/inbox/{account}", self.inbox),
        ]

    async def chat(self, request: web.Request) -> web.Response:
        """Redirect to the chat page, or to the login."""
        session = self._sessions.find(request.cookies.get(COOKIE, ""), "cookie")
        raise web.HTTPFound("/chat" if session else "/code/login")

    async def login_page(self, _: web.Request) -> web.Response:
        """Return the form for the password."""
        return _form("code_login.html")

    async def check_password(self, request: web.Request) -> web.Response:
        """Send a new code, and return the form for it; or the first form again with 401."""
        given = await request.post()
        account = str(given.get("username", "")).strip()
        if not check_password(account, str(given.get("password", ""))):
            return _form("code_login.html", status=401, notice="Wrong username or password.")
        ticket, asked = secrets.token_urlsafe(16), _Asked(account)
        self._asked[ticket], self._inbox[account] = asked, asked.code
        return _form("code_verify.html", ticket=ticket)

    async def check_code(self, request: web.Request) -> web.Response:
        """Open a session for the right code, which is then used up; after three wrong ones the login begins anew."""
        given = await request.post()
        ticket = str(given.get("ticket", ""))
        asked = self._asked.get(ticket)
        if asked is None:
            return _form("code_login.html", status=401, notice="Log in again.")
        if not secrets.compare_digest(str(given.get("code", "")).encode(), asked.code.encode()):
            asked.tries -= 1
            if not asked.tries:
                del self._asked[ticket]
            return _form("code_verify.html", status=401, ticket=ticket, notice="Wrong code.")
        del self._asked[ticket]
        session = self._sessions.open(asked.account, "cookie")
        response = web.HTTPSeeOther("/chat")
        response.headers.add("Set-Cookie", cookie_header(session.token, self._sessions.ttl_s))
        raise response

    async def inbox(self, request: web.Request) -> web.Response:
        """Return the last code that was sent to an account, as text."""
        return web.Response(text=self._inbox.get(request.match_info["account"], ""))


def _form(name: str, *, status: int = 200, ticket: str = "", notice: str = "") -> web.Response:
    text = (STATIC / name).read_text(encoding="utf-8")
    title = notice or ("One-time code" if ticket else "Log in")  # screen readers say it first
    for key, value in (("title", title), ("ticket", ticket), ("notice", notice)):
        text = text.replace(f"{{{{{key}}}}}", html.escape(value))
    return web.Response(text=text, status=status, content_type="text/html")

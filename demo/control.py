"""The control API under `/control/`: read the ledger and switch faults on. Off unless a token is set."""

from __future__ import annotations

import hmac
from typing import Any

from aiohttp import web

from demo.accounts import Sessions
from demo.chat import Chat
from demo.faults import Faults, UnknownFault
from demo.ledger import Entry, Ledger
from demo.web import abort, read_json

TOKEN_HEADER = "X-Demo-Control"  # noqa: S105 - the name of a header
MAX_WAIT_S = 60.0
_TEXT_FILTERS = ("account", "conversation", "prompt_sha256", "token", "outcome", "transport", "model")


class ControlRoutes:
    """The routes under `/control/`; every request needs the token in `X-Demo-Control`."""

    def __init__(self, token: str, ledger: Ledger, faults: Faults, sessions: Sessions, chat: Chat) -> None:
        self._token = token
        self._ledger = ledger
        self._faults = faults
        self._sessions = sessions
        self._chat = chat

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [
            web.get("/control/ledger", self.ledger),
            web.get("/control/faults", self.faults),
            web.post("/control/faults", self.add_fault),
            web.delete("/control/faults", self.clear_faults),
            web.get("/control/sessions", self.sessions),
        ]

    def _check(self, request: web.Request) -> None:
        given = request.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            abort(401, "control_token", f"Send the control token in the header {TOKEN_HEADER}.")

    async def ledger(self, request: web.Request) -> web.Response:
        """Return `{"revision", "entries"}`; with `wait_s`, wait up to so many seconds for an entry that matches."""
        self._check(request)
        query = _Query(request)
        wait_s = min(_number(request, "wait_s"), MAX_WAIT_S)
        entries = await self._ledger.wait(query, wait_s) if wait_s else self._ledger.entries(query)
        views = [entry.view() for entry in entries]
        return web.json_response({"revision": self._ledger.revision, "entries": views})

    async def faults(self, request: web.Request) -> web.Response:
        """Return the active faults."""
        self._check(request)
        return web.json_response({"faults": self._faults.view()})

    async def sessions(self, request: web.Request) -> web.Response:
        """Return the open sessions, and how many logins were ended by a spent token, and deleted cookies came back."""
        self._check(request)
        sessions = self._sessions
        return web.json_response(
            {"open": sessions.view(), "reused": sessions.reused, "resurrected": sessions.resurrected}
        )

    async def add_fault(self, request: web.Request) -> web.Response:
        """Activate a fault and return its id; `expire_session` acts at once and returns how many sessions ended."""
        self._check(request)
        data = await read_json(request)
        kind, account = _optional_string(data, "kind"), _optional_string(data, "account")
        if kind == "expire_session":
            return web.json_response({"expired": self._sessions.expire(account)})
        try:
            fault = self._faults.add(
                kind or "", account=account, count=_optional_integer(data, "count"), ms=_optional_integer(data, "ms")
            )
        except UnknownFault as error:
            abort(400, "bad_request", str(error))
        return web.json_response({"id": fault.id})

    async def clear_faults(self, request: web.Request) -> web.Response:
        """Clear the faults of `?account=`, or all, resume answers that stall without end, and return the rest."""
        self._check(request)
        account = request.query.get("account")
        self._faults.clear(account)
        self._chat.end_stalls(account)
        return web.json_response({"faults": self._faults.view()})


class _Query:
    """A query for ledger entries: equal fields, `id`, `since` (greater ids), `after` (greater revisions)."""

    def __init__(self, request: web.Request) -> None:
        self._texts = {name: request.query[name] for name in _TEXT_FILTERS if name in request.query}
        self._id = _number(request, "id")
        self._since = _number(request, "since")
        self._after = _number(request, "after")

    def __call__(self, entry: Entry) -> bool:
        numbers = entry.id > self._since and entry.revision > self._after and self._id in (0, entry.id)
        return numbers and all(getattr(entry, name) == text for name, text in self._texts.items())


def _number(request: web.Request, name: str) -> float:
    try:
        return float(request.query.get(name, "0"))
    except ValueError:
        abort(400, "bad_request", f"{name} must be a number.")


def _optional_string(data: dict[str, Any], name: str) -> str | None:
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        abort(400, "bad_request", f"{name} must be a string.")
    return value


def _optional_integer(data: dict[str, Any], name: str) -> int | None:
    value = data.get(name)
    if value is not None and (type(value) is not int or value < 0):
        abort(400, "bad_request", f"{name} must be a non-negative integer.")
    return value

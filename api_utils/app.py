"""The child's HTTP application: its routes, and errors in OpenAI's form."""

from __future__ import annotations

from typing import Final

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from api_utils.error_responses import EXCEPTION_HANDLERS, error_response
from api_utils.routers import chat, check, health, models, screenshot
from api_utils.state import ChildState
from contract.api_error import ApiError
from contract.dialects import dialect_of
from contract.hosts import Hosts
from contract.request_id import RequestIds
from contract.routes import route_of

_HOSTS: Final = Hosts(loopback_only=True, settable=False)


def make_app(state: ChildState) -> ASGIApp:
    """Return the application with one child's parts behind its routes."""
    app = Starlette(
        routes=[*health.routes, *models.routes, *chat.routes, *screenshot.routes, *check.routes],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.state.child = state
    app.router.redirect_slashes = False  # to a client of an API a redirect is no answer

    async def admit(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = route_of(scope["path"])
            scope = {**scope, "path": path}
            try:
                # A page in a browser on this machine reaches loopback by any name that resolves to it (DNS rebinding).
                _HOSTS.check(scope["headers"])
            except ApiError as error:
                await error_response(error, dialect=dialect_of(path))(scope, receive, send)
                return
        await app(scope, receive, send)

    return RequestIds(admit)

"""The child's HTTP application: its routes, and errors in OpenAI's form."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from api_utils.error_responses import EXCEPTION_HANDLERS
from api_utils.routers import chat, health, models, screenshot
from api_utils.state import ChildState
from contract.request_id import RequestIds


def make_app(state: ChildState) -> ASGIApp:
    """Return the application with one child's parts behind its routes."""
    app = Starlette(
        routes=[*health.routes, *models.routes, *chat.routes, *screenshot.routes],
        # A page in a browser on this machine reaches loopback by any name that resolves to it (DNS rebinding).
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False)],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.state.child = state
    app.router.redirect_slashes = False  # to a client of an API a redirect is no answer
    return RequestIds(app)

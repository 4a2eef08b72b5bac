"""The child's HTTP application: routes, and errors in OpenAI's shape."""

from __future__ import annotations

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse

from api_utils.errors import ApiError
from api_utils.routers import chat, health, models, screenshot
from api_utils.state import ChildState

log = structlog.get_logger(__name__)


def make_app(state: ChildState) -> Starlette:
    """Wire the routes to one child's parts."""
    app = Starlette(
        routes=[*health.routes, *models.routes, *chat.routes, *screenshot.routes],
        # A page in a browser on this machine reaches loopback by any name that resolves to it (DNS rebinding).
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False)],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _unexpected},
    )
    app.state.child = state
    return app


async def _api_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class only
    return error.response()


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    return ApiError(error.status_code, code, str(error.detail), headers=dict(error.headers or {})).response()


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    log.error("unexpected_error", kind=type(error).__name__)
    # Nobody can tell here whether a prompt was submitted, so no client may try again by itself.
    headers = {"x-should-retry": "false"}
    return ApiError(
        500, "internal_error", "something unexpected went wrong", "server_error", headers=headers
    ).response()

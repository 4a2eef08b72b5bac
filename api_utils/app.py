"""The child's HTTP application: routes, and errors in OpenAI's shape."""

from __future__ import annotations

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response

from api_utils.responses import error_response
from api_utils.routers import chat, health, models, screenshot
from api_utils.state import ChildState
from contract.api_error import ApiError, ErrorCode, not_to_be_retried

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


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class only
    return error_response(error)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    code = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED}.get(error.status_code, ErrorCode.HTTP_ERROR)
    return error_response(
        ApiError(code, str(error.detail), headers=dict(error.headers or {}), status=error.status_code)
    )


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("unexpected_error", kind=type(error).__name__)
    # Nobody can tell here whether a prompt was submitted, so no client may try again by itself.
    return error_response(not_to_be_retried(ErrorCode.INTERNAL_ERROR, "something unexpected went wrong"))

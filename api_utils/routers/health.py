"""`/live`, `/ready` and the legacy `/health` of one child. They need no key and show no secret."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from api_utils.state import ChildState

_SAYS = {
    "starting": "the browser is starting",
    "browser_lost": "the browser does not answer",
    "login_expired": "the site asks for a login",
    "page_broken": "the page is not what the site file says",
    "quota": "the site refuses further prompts for now",
}


async def live(_: Request) -> JSONResponse:
    """200 as long as the process serves at all."""
    return JSONResponse({"status": "live"})


async def ready(request: Request) -> JSONResponse:
    """200 when the page can take a prompt, or is busy with one; else 503 with the reason."""
    state = ChildState.of(request)
    page, settings = state.page, state.settings
    status = page.status
    body: dict[str, Any] = {
        "status": "ready" if status.ready else "unready",
        "reason": status.reason,
        "detail": status.detail,
        "instance_id": settings.tabfleet_instance_id,
        "generation": settings.tabfleet_generation,
        "busy": state.desk.busy or page.busy,
        "models": list(page.models),
        "site": state.site,
        "engine": state.engine,
        "capture": status.capture,
        "login_expires_at": status.login_expires_at,
        "rest_s": status.rest_s,
    }
    return JSONResponse(body, status_code=200 if status.ready else 503)


async def health(request: Request) -> JSONResponse:
    """The single-child image's old form; its status code is that of `/ready`."""
    status = ChildState.of(request).page.status
    says = "ready" if status.ready else _SAYS.get(status.reason or "", "not ready")
    body = {
        "status": "OK" if status.ready else "Error",
        "message": says,
        "details": {"reason": status.reason, "detail": status.detail, "capture": status.capture},
    }
    return JSONResponse(body, status_code=200 if status.ready else 503)


routes = [Route("/live", live), Route("/ready", ready), Route("/health", health)]

"""`/live`, `/ready` and the legacy `/health` of one child. They need no key and show no secret."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from api_utils.state import ChildState
from contract.child_api import READY_PATH, UnreadyReason

_MESSAGES: Final = {
    None: "ready",
    UnreadyReason.STARTING: "the browser is starting",
    UnreadyReason.BROWSER_LOST: "the browser does not answer",
    UnreadyReason.LOGIN_EXPIRED: "the site asks for a login",
    UnreadyReason.PAGE_BROKEN: "the page is not what the site file says",
    UnreadyReason.SITE_UNREACHABLE: "the site does not answer",
    UnreadyReason.PROXY_UNREACHABLE: "the login's proxy does not answer",
    UnreadyReason.PROXY_REFUSED: "the login's proxy does not let it through",
    UnreadyReason.QUOTA: "the site refuses further prompts for now",
}


async def live(_: Request) -> JSONResponse:
    """Answer 200 as long as the process serves at all."""
    return JSONResponse({"status": "live"})


async def ready(request: Request) -> JSONResponse:
    """Answer 200 when the page can take a prompt, or is busy with one; else 503 with the reason."""
    readiness = ChildState.of(request).readiness()
    return JSONResponse(readiness.to_json(), status_code=readiness.status_code)


async def health(request: Request) -> JSONResponse:
    """Answer in the single-child image's old form; the status code is that of `/ready`."""
    readiness = ChildState.of(request).readiness()
    body = {
        "status": "OK" if readiness.reason is None else "Error",
        "message": _MESSAGES[readiness.reason],
        "details": {"reason": readiness.reason, "detail": readiness.detail, "capture": readiness.capture},
    }
    return JSONResponse(body, status_code=readiness.status_code)


routes = [Route("/live", live), Route(READY_PATH, ready), Route("/health", health)]

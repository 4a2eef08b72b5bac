"""`/screenshot`: what the page shows now, for whoever looks after this child."""

from __future__ import annotations

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api_utils.access import require_secret
from api_utils.responses import from_browser
from api_utils.state import ChildState
from browser.errors import BrowserError

log = structlog.get_logger(__name__)


async def screenshot(request: Request) -> Response:
    """A PNG of the page, its present caller's conversation included: it takes a key even where `/v1` is open."""
    await require_secret(request)
    try:
        picture = await ChildState.of(request).page.screenshot()
    except BrowserError as error:
        log.warning("screenshot_failed", reason=error.reason)
        raise from_browser(error, submitted=False) from None
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(picture, media_type="image/png", headers=headers)


routes = [Route("/screenshot", screenshot)]

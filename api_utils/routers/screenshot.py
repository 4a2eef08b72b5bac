"""`/screenshot`: what the page shows now, for whoever looks after this child."""

from __future__ import annotations

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api_utils.error_responses import from_browser
from api_utils.state import ChildState, require_viewer
from browser.errors import BrowserError
from contract.child_api import SCREENSHOT_PATH

log = structlog.get_logger(__name__)


async def screenshot(request: Request) -> Response:
    """Answer with a PNG of the page. Raises ApiError.

    It takes a key of a viewer even where `/v1` is open, for it shows the conversation of whoever has the page.
    """
    await require_viewer(request)
    try:
        picture = await ChildState.of(request).page.screenshot()
    except BrowserError as error:
        log.warning("screenshot_failed", reason=error.reason)
        raise from_browser(error, submitted=False) from None
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(picture, media_type="image/png", headers=headers)


routes = [Route(SCREENSHOT_PATH, screenshot)]

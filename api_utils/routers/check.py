"""`/check`: try a site file on this child's login, in a tab beside the page in service."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_utils.state import ChildState, read_json, require_operator
from browser.errors import BrowserError
from contract.api_error import bad_request
from contract.child_api import MOST_SITE_FILE_BYTES
from contract.site_check import CHECK_PATH, CheckOutcome, SiteCheck

log = structlog.get_logger(__name__)

_BODY_TIMEOUT_S: Final = 10.0
_MOST_BYTES: Final = 6 * MOST_SITE_FILE_BYTES + 1000  # JSON may take six bytes for one
_LOOK_S: Final = 0.02


async def check(request: Request) -> Response:
    """Answer with what the check found, which is given up as soon as a request wants the page. Raises ApiError."""
    await require_operator(request)
    body = await read_json(request, _MOST_BYTES, _BODY_TIMEOUT_S)
    file, text = (body.get("file"), body.get("text")) if isinstance(body, dict) else (None, None)
    if not isinstance(file, str) or not isinstance(text, str):
        raise bad_request("the body needs file, a site file's name, and text, its content")
    state = ChildState.of(request)
    if state.checking.locked():
        return _answer(SiteCheck(CheckOutcome.GIVEN_UP, "another check is under way", file=file))
    async with state.checking:
        found = await _check_while_idle(state, file, text)
    log.info("site_checked", outcome=found.outcome, step=found.step, line=found.line, key=found.key)
    return _answer(found)


async def _check_while_idle(state: ChildState, file: str, text: str) -> SiteCheck:
    if state.in_use:
        return SiteCheck(CheckOutcome.GIVEN_UP, "the page is in use", file=file)
    # Here, for a child needs the checker once an hour at most.
    from browser.check.page_check import check_beside  # noqa: PLC0415

    async def until_in_use() -> None:
        while not state.in_use:  # noqa: ASYNC110 - queue and page have no common event
            await asyncio.sleep(_LOOK_S)

    try:
        await state.page.wake()
        beside = check_beside(state.page.site_page, file, text, engine=state.engine, settings=state.settings)
    except BrowserError as error:
        return SiteCheck(CheckOutcome.GIVEN_UP, str(error), file=file)
    checking = asyncio.create_task(beside, name="site-check")
    waiting = asyncio.create_task(until_in_use(), name="site-check-idle")
    try:
        await asyncio.wait({checking, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if checking.done():
            return checking.result()
        return SiteCheck(CheckOutcome.GIVEN_UP, "a request came", file=file)
    finally:
        for task in (checking, waiting):
            task.cancel()
        await asyncio.gather(checking, waiting, return_exceptions=True)


def _answer(found: SiteCheck) -> Response:
    return JSONResponse(found.to_json())


routes = [Route(CHECK_PATH, check, methods=["POST"])]

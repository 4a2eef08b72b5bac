"""What the child's routes share: its parts, who may use them, and how a body is read."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pydantic_core
from starlette.requests import Request
from starlette.responses import Response

from api_utils.request_queue import RequestQueue
from api_utils.settings import ChildSettings
from browser.page.chat_page import ChatPage
from browser.settings import EngineName
from contract.api_error import ApiError, ErrorCode, bad_request
from contract.child_api import TOKEN_HEADER, Readiness, UnreadyReason
from contract.content_coding import decoder_of
from contract.keys import FollowedKeys, Role, check_key, presented_key

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class ChildState:
    """One child's parts, put into the application's state by `make_app`."""

    page: ChatPage
    queue: RequestQueue
    settings: ChildSettings
    keys: FollowedKeys
    site: str
    engine: EngineName
    checking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a site file is checked beside the page."""

    @staticmethod
    def of(request: Request) -> ChildState:
        """Return the state of the application that serves this request."""
        return cast("ChildState", request.app.state.child)

    @property
    def in_use(self) -> bool:
        """Whether a request has the page or waits for it, or the page is being recovered."""
        return self.queue.busy or self.page.busy

    def readiness(self) -> Readiness:
        """Return what `/ready` says now."""
        status = self.page.status
        return Readiness(
            None if status.ready else UnreadyReason(status.reason or UnreadyReason.STARTING),
            detail=status.detail,
            instance_id=self.settings.tabfleet_instance_id,
            generation=self.settings.tabfleet_generation,
            busy=self.in_use,
            models=self.page.models,
            site=self.site,
            engine=self.engine,
            capture=status.capture,
            login_expires_at=status.login_expires_at,
            rest_s=status.rest_s,
            session=status.session,
            login_kept=status.refresh.keeps_login,
            refreshes=status.refresh.refreshed,
            refresh_failures=status.refresh.failed,
            warning=status.refresh.warning,
            asleep=status.asleep,
        )


def keyed(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint for those who have a key; for others it raises ApiError (401)."""

    async def checked(request: Request) -> Response:
        await require_key(request)
        return await endpoint(request)

    return checked


async def require_key(request: Request) -> None:
    """Raise ApiError (401) unless the request carries a key, the control token, or no keys are set."""
    _check(request, None)


async def require_viewer(request: Request) -> None:
    """Raise ApiError unless the request carries the control token or a key of `Role.VIEW`: 401, or 403 for others."""
    _check(request, Role.VIEW)


async def require_operator(request: Request) -> None:
    """Raise ApiError unless the request carries the control token or a key of `Role.OPERATE`: 401, or 403."""
    _check(request, Role.OPERATE)


def _check(request: Request, needed: Role | None) -> None:
    state = ChildState.of(request)
    if has_control_token(request, state.settings.tabfleet_control_token):
        return
    key = presented_key(request.headers.get("authorization"), request.headers.get("x-api-key"))
    check_key(state.keys.current(), key, needed)


def has_control_token(request: Request, token: str | None) -> bool:
    """Return whether the request comes from the coordinator that has started this child."""
    given = request.headers.get(TOKEN_HEADER, "")
    return token is not None and hmac.compare_digest(given.encode(), token.encode())


async def read_json(request: Request, max_bytes: int, timeout_s: float) -> Any:
    """Return the decoded JSON body. Raises ApiError: 415 for another type or coding, 413, 408 after timeout_s, 400.

    The content type is what keeps a form in somebody's browser from posting here unseen: with
    application/json the browser asks first (CORS preflight), and nothing here grants it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "send the body as Content-Type: application/json")
    decoder = decoder_of(request.headers.get("content-encoding"))
    too_large = ApiError(ErrorCode.BODY_TOO_LARGE, f"the body is larger than {max_bytes} bytes (MAX_BODY_BYTES)")
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)  # as it came: a coding can take any number of bytes to say nothing
                if size > max_bytes:
                    raise too_large
                for piece in (chunk,) if decoder is None else decoder.pieces(chunk):
                    body += piece
                    if len(body) > max_bytes:
                        raise too_large
                    await asyncio.sleep(0)
    except TimeoutError:
        raise ApiError(ErrorCode.REQUEST_TIMEOUT, "the body did not arrive in time") from None
    if decoder is not None:
        decoder.finish()
    try:
        # Stricter than json: UTF-8 only, no lone surrogates, no NaN, and no nesting that some later recursion meets.
        return pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        raise bad_request("the body is not valid JSON in UTF-8, or nested too deeply") from None

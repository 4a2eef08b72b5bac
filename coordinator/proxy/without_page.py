"""Requests that a child answers by itself: its page is not asked, so that no lease is needed and none is waited for."""

from __future__ import annotations

import asyncio
from typing import Final

from contract.api_error import ErrorCode, unavailable
from coordinator.errors import NoBackend, UpstreamBroken
from coordinator.proxy.exchange import ChatRequest
from coordinator.proxy.headers import child_headers, response_headers
from coordinator.proxy.pool import Pool
from coordinator.proxy.response import Response
from coordinator.proxy.upstream import Upstream

_ANSWER_S: Final = 10.0
_RETRY_S: Final = 5.0


async def ask_any_child(pool: Pool, upstream: Upstream, request: ChatRequest, response: Response) -> None:
    """Pass on the answer of the least busy child that gives one. Raises ApiError (503) if none does."""
    tried: frozenset[str] = frozenset()
    while backend := pool.ready_backend(name := pool.choose(request.body.model, exclude=tried), exclude=tried):
        tried |= {backend.name}
        model = backend.model_of(name)
        meant = None if model == request.body.model else model
        headers = child_headers(request.request_id, backend.token, meant)
        try:
            async with (
                asyncio.timeout(_ANSWER_S),
                upstream.post(backend, request.path, headers, request.body.raw) as answer,
            ):
                body = await answer.read()
        except (UpstreamBroken, TimeoutError):
            continue  # nothing was submitted
        await response.send_whole(answer.status, response_headers(answer.raw_headers, request.request_id), body)
        return
    raise unavailable(ErrorCode.NONE_READY, str(NoBackend("none_ready", _RETRY_S)), retry_after_s=_RETRY_S)

"""The page's answer as an HTTP response: streamed as server-sent events, or whole.

Wire formats: https://platform.openai.com/docs/api-reference/chat/object and .../chat/streaming;
comments and events: https://html.spec.whatwg.org/multipage/server-sent-events.html

The response's head goes out with the first piece of text, so that a failure before it has a real
status; where the page thinks for long, after the first pause, with a comment to keep proxies awake.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import structlog
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from api_utils.request_queue import Desk
from api_utils.responses import error_response, from_browser
from browser.errors import BrowserError
from browser.page.images import Image
from contract.api_error import DO_NOT_RETRY, ApiError, ErrorCode, sse, to_json

log = structlog.get_logger(__name__)

KEEP_ALIVE_S = 10.0
_KEEP_ALIVE = b": keep-alive\n\n"
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Question:
    """What is asked of the page."""

    request_id: str
    model: str
    prompt: str = field(repr=False)
    images: tuple[Image, ...] = field(repr=False)
    stream: bool
    created: int = field(default_factory=lambda: int(time.time()))

    def envelope(self, kind: str) -> dict[str, Any]:
        """The fields that an answer and each of its chunks share. There is no `usage`: a page tells none."""
        return {
            "id": f"chatcmpl-{self.request_id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
        }


class AnswerResponse(Response):
    """Asks the page when it is served; ends the page's answer when the client leaves."""

    def __init__(self, desk: Desk, question: Question) -> None:
        super().__init__()
        self._desk = desk
        self._question = question
        self._head_sent = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.create_task(self._answer(send), name="answer")
        gone = asyncio.create_task(_disconnected(receive), name="disconnect-watcher")
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            client_left = not work.done()
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if client_left:
            log.info("client_left", request=self._question.request_id)
            return
        last = await self._failed(_called_off(submitted=self._submitted), send) if work.cancelled() else work.result()
        if last is not None:
            await last(scope, receive, send)

    @property
    def _submitted(self) -> bool:
        return self._desk.page.was_submitted(self._question.request_id)

    async def _answer(self, send: Send) -> Response | None:
        """Ask and answer. Returns what is left to send: nothing after a stream."""
        question = self._question
        try:
            async with self._desk.visit(question.request_id):
                pieces = self._desk.page.ask(question.request_id, question.prompt, question.model, question.images)
                last = None
                if question.stream:
                    await self._streamed(pieces, send)
                else:
                    last = await self._whole(pieces)
        except ApiError as error:
            return await self._failed(error, send)
        except BrowserError as error:
            log.warning("answer_failed", request=question.request_id, reason=error.reason)
            return await self._failed(from_browser(error, submitted=self._submitted), send)
        log.info("answered", request=question.request_id)
        return last

    async def _whole(self, pieces: AsyncGenerator[str]) -> Response:
        text = "".join([piece async for piece in with_pauses(pieces, KEEP_ALIVE_S) if piece is not None])
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        body = {**self._question.envelope("chat.completion"), "choices": [choice]}
        return JSONResponse(body, headers={"x-request-id": self._question.request_id})

    async def _streamed(self, pieces: AsyncGenerator[str], send: Send) -> None:
        first = self._event({"role": "assistant", "content": "", "refusal": None})
        async for piece in with_pauses(pieces, KEEP_ALIVE_S):
            if piece is not None:
                await self._send(send, first + self._event({"content": piece}))
                first = b""
            elif self._submitted:
                await self._send(send, _KEEP_ALIVE)
        await self._send(send, first + self._event({}, finish_reason="stop") + _DONE)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _event(self, delta: dict[str, Any], *, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return sse(to_json({**self._question.envelope("chat.completion.chunk"), "choices": [choice]}))

    async def _send(self, send: Send, body: bytes) -> None:
        if not self._head_sent:
            self._head_sent = True
            await send(self._head())
        await send({"type": "http.response.body", "body": body, "more_body": True})

    def _head(self) -> Message:
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",  # nginx would hold the tokens back
            "x-request-id": self._question.request_id,
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        return {"type": "http.response.start", "status": 200, "headers": raw}

    async def _failed(self, error: ApiError, send: Send) -> Response | None:
        """The error as the end of a stream that has begun, else as the response it still can be."""
        if not self._head_sent:
            return error_response(error, self._question.request_id)
        await send({"type": "http.response.body", "body": error.event(), "more_body": False})
        return None


async def with_pauses(pieces: AsyncGenerator[str], pause_s: float) -> AsyncIterator[str | None]:
    """Yield each piece, and None for each `pause_s` seconds without one. Closes `pieces` in the end."""
    upcoming: asyncio.Task[str] | None = None
    try:
        while True:
            upcoming = upcoming or asyncio.ensure_future(anext(pieces))
            done, _ = await asyncio.wait({upcoming}, timeout=pause_s)
            if not done:
                yield None
                continue
            try:
                piece = upcoming.result()
            except StopAsyncIteration:
                return
            finally:
                upcoming = None
            yield piece
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)
        await pieces.aclose()


def _called_off(*, submitted: bool) -> ApiError:
    headers = DO_NOT_RETRY if submitted else {"retry-after": "1"}
    return ApiError(ErrorCode.CANCELLED, "the request was called off", headers=headers)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

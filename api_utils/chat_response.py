"""The page's answer as an HTTP response: streamed as server-sent events, or whole.

How an answer is written is the `AnswerFormat`'s business, one for each API dialect. Comments and events:
https://html.spec.whatwg.org/multipage/server-sent-events.html

The response's head goes out with the first piece of text, or with the whole answer, so that a failure before it has a
real status. Where that takes long, it goes out after the first pause, to keep proxies awake: with a comment before
events, with a line break before JSON, whose readers skip it. A failure after that is an event in both: it is no JSON,
so that no client takes it for an answer, and the response is complete, so that none sends the request again as after a
broken connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final, TypeVar

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api_utils.answer_format import AnswerFormat
from api_utils.error_responses import error_response, from_browser, unexpected
from api_utils.page_answer import PageAnswer
from api_utils.prompt import Prompt
from api_utils.request_queue import RequestQueue
from api_utils.tools import ToolCall
from browser.capture.findings import Reasoning
from browser.errors import BrowserError
from browser.timeouts import finish
from contract.api_error import ApiError, ErrorCode, not_to_be_retried, unavailable
from contract.child_api import REQUEST_ID_HEADER
from contract.child_environment import KEEP_ALIVE_S
from contract.dialects.dialect import Dialect

log = structlog.get_logger(__name__)

_T = TypeVar("_T")
_COMMENT: Final = b": keep-alive\n\n"
_LINE_BREAK: Final = b"\n"


class ChatResponse(Response):
    """Asks the page when it is served; ends the page's answer when the client leaves."""

    def __init__(
        self, queue: RequestQueue, prompt: Prompt, dialect: Dialect, answer_format: AnswerFormat, *, stream: bool
    ) -> None:
        """`stream` says whether pieces are sent as they come, or the answer as a whole."""
        super().__init__()
        self._queue = queue
        self._prompt = prompt
        self._dialect = dialect
        self._format = answer_format
        self._stream = stream
        self._head_sent = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a client that leaves cancels that, and this returns when the page is fresh again."""
        answering = asyncio.create_task(self._answer(send), name="answer")
        # uvicorn's send() says nothing of a client that is gone: only receive() does.
        leaving = asyncio.create_task(_wait_disconnected(receive), name="disconnect-watcher")
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            client_left = not answering.done()
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
        if client_left:
            log.info("client_left", request=self._prompt.request_id)
            return
        if answering.cancelled():
            what = "the request was cancelled"
            error = unavailable(ErrorCode.CANCELLED, what, retry_after_s=1)
            if self._submitted:
                error = not_to_be_retried(ErrorCode.CANCELLED, what)
            last = await self._fail(error, send)
        else:
            last = answering.result()
        if last is None:
            return
        if self._head_sent:
            await send({"type": "http.response.body", "body": last.body, "more_body": False})
        else:
            await last(scope, receive, send)

    @property
    def _submitted(self) -> bool:
        return self._queue.page.was_submitted(self._prompt.request_id)

    async def _answer(self, send: Send) -> Response | None:
        """Ask and answer. Return what is left to send: nothing after a stream."""
        request_id = self._prompt.request_id
        last = None
        try:
            async with self._queue.admit(request_id):
                answer = PageAnswer(self._queue.page, self._prompt)
                if self._stream:
                    await self._send_items(answer, send)
                else:
                    last = await self._whole(answer, send)
        except ApiError as error:
            return await self._fail(error, send)
        except BrowserError as error:
            log.warning("answer_failed", request=request_id, reason=error.reason)
            return await self._fail(from_browser(error, submitted=self._submitted), send)
        except Exception as error:
            if not self._head_sent:
                raise
            log.error("unexpected_error", kind=type(error).__name__)  # noqa: TRY400 - a traceback may hold the prompt
            return await self._fail(unexpected(), send)
        log.info("answered", request=request_id)
        return last

    async def _send_items(self, answer: PageAnswer, send: Send) -> None:
        begin, calls = self._format.begin(), 0
        async with contextlib.aclosing(with_pauses(answer.items(), KEEP_ALIVE_S)) as items:
            async for item in items:
                if isinstance(item, str):
                    await self._send(send, begin + self._format.piece(item))
                    begin = b""
                elif isinstance(item, Reasoning):
                    await self._send(send, begin + self._format.reasoning(item.text))
                    begin = b""
                elif item is not None:
                    await self._send(send, begin + self._format.tool_call(calls, item))
                    begin, calls = b"", calls + 1
                elif self._submitted:  # before that a failure can still have its own status
                    await self._send(send, _COMMENT)
        await self._send(send, begin + self._format.end(answer.end))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _whole(self, answer: PageAnswer, send: Send) -> Response | None:
        """Return the whole answer, or what of it is to be sent after line breaks."""
        whole = None
        async with contextlib.aclosing(with_pauses(_collected(answer.items()), KEEP_ALIVE_S)) as collected:
            async for got in collected:
                if got is not None:
                    text = "".join(item for item in got if isinstance(item, str))
                    calls = [item for item in got if isinstance(item, ToolCall)]
                    reasoning = "".join(item.text for item in got if isinstance(item, Reasoning))
                    whole = Response(
                        self._format.whole(text, calls, answer.end, reasoning),
                        headers={REQUEST_ID_HEADER: self._prompt.request_id, **self._format.headers},
                        media_type="application/json",
                    )
                elif self._submitted:  # as above
                    await self._send(send, _LINE_BREAK)
        return whole

    async def _send(self, send: Send, body: bytes) -> None:
        if not self._head_sent:
            self._head_sent = True
            headers = {
                "content-type": "text/event-stream; charset=utf-8" if self._stream else "application/json",
                "cache-control": "no-cache",
                "x-accel-buffering": "no",  # nginx would hold the tokens back
                REQUEST_ID_HEADER: self._prompt.request_id,
                **self._format.headers,
            }
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": True})

    async def _fail(self, error: ApiError, send: Send) -> Response | None:
        """End a response that has begun with the error, else return the error as the response that it still can be."""
        if not self._head_sent:
            return error_response(error, self._prompt.request_id, self._dialect)
        await send({"type": "http.response.body", "body": self._dialect.error_event(error), "more_body": False})
        return None


async def _collected(items: AsyncGenerator[_T]) -> AsyncGenerator[list[_T]]:
    """Yield all items in one list. Closes `items` in the end."""
    async with contextlib.aclosing(items):
        yield [item async for item in items]


async def with_pauses(pieces: AsyncGenerator[_T], pause_s: float) -> AsyncGenerator[_T | None]:
    """Yield each piece, and None for each `pause_s` seconds without one. Closes `pieces` in the end."""
    upcoming: asyncio.Task[_T] | None = None

    async def close() -> None:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)
        await pieces.aclose()

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
        # A request may be cancelled twice: by the coordinator's word, and by its closing of the connection. The second
        # must not leave `pieces` open, which hold the page until somebody closes them.
        await finish(close(), "answer-close")


async def _wait_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

"""A request that is cancelled at any moment, once or twice: the page is free again by the time that it has ended."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import pytest

from api_utils.chat_response import ChatResponse
from api_utils.dialects import PARSERS
from api_utils.prompt import Prompt, text_of
from api_utils.prompt_form import PromptForm
from api_utils.request_queue import RequestQueue
from browser.capture.findings import Reasoning
from browser.page.completion import Completion
from browser.page.conversation import Conversation, PageTurns
from browser.page.images import Image
from browser.site.schema import Model
from contract.dialects.chat import CHAT
from tests.api.scripted_page import ScriptedPage
from tests.support.waiting import HANG_LIMIT_S

PIECES = ["a", "b", "c"]
TURNS = 30
"""Turns of the event loop: more than the answer takes."""
RESET_TURNS = 3
"""And those that it takes to bring the page to an empty conversation."""


class ScriptedCompletion(Completion):
    def __init__(self) -> None:
        """Nothing is set up."""

    async def stream(
        self, prompt: str, model: Model, images: Sequence[Image] = ()
    ) -> AsyncGenerator[str | Reasoning, None]:
        for piece in PIECES:
            await asyncio.sleep(0)
            yield piece


class SlowlyResetPage(ScriptedPage):
    """Its conversations are real ones; what they have the page do takes some turns of the loop."""

    conversations = 0

    def converse(self, request_id: str, model: str) -> Conversation:
        async def begin(number: int, earlier: Completion | None) -> Completion:
            self.conversations += 1
            return ScriptedCompletion()

        async def explain(number: int, error: Exception, completion: Completion | None) -> Exception:
            return error

        async def release(completion: Completion | None) -> None:
            for _ in range(RESET_TURNS):
                await asyncio.sleep(0)
            self.resets += completion is not None
            self.exclusive.release()

        turns = PageTurns(begin, explain, release)
        return Conversation(turns=turns, model=Model(name=model), exclusive=self.exclusive, releases=set())


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Keep the collector of cycles from closing what was left open: it does so too late."""
    gc.disable()
    yield
    gc.enable()


async def served(page: SlowlyResetPage, *, stream: bool, cancel_at: int, leave_at: int, slow_send: bool) -> bool:
    """Serve a request that the coordinator cancels, and whose connection it closes, each in its turn of the loop.

    Returns whether the request ended before the page's answer did.
    """
    queue, left = RequestQueue(page), asyncio.Event()
    body = {"model": "demo-small", "stream": stream, "messages": [{"role": "user", "content": "Hello"}]}
    asked, form = PARSERS[CHAT.path](body), PromptForm.of(page.prompt_texts)
    prompt = Prompt("r-1", "demo-small", text_of(asked.messages, None, None, form), (), asked.limits, None, None, form)
    response = ChatResponse(queue, prompt, CHAT, asked.answer_format("r-1", prompt_tokens=None), stream=stream)
    sent = b""

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal sent
        sent += message.get("body", b"")
        if slow_send:
            await asyncio.sleep(0)

    scope = {"type": "http", "method": "POST", "path": CHAT.path, "headers": []}
    serving = asyncio.create_task(response(scope, receive, send))
    cancelling, turn = None, 0
    while not serving.done():
        if turn == cancel_at:
            cancelling = asyncio.create_task(queue.cancel("r-1", timeout_s=HANG_LIMIT_S))
        if turn == leave_at:
            left.set()
        await asyncio.sleep(0)
        turn += 1
    await serving
    assert cancelling is None or await cancelling
    return PIECES[-1].encode() not in sent


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("slow_send", [False, True])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_cancelled_at_any_turn_of_the_loop_frees_the_page(stream: bool, slow_send: bool) -> None:
    ended_early = 0
    for cancel_at in (*range(TURNS), 1000):
        for leave_at in range(TURNS):
            page = SlowlyResetPage()
            early = await served(page, stream=stream, cancel_at=cancel_at, leave_at=leave_at, slow_send=slow_send)
            when = f"cancelled in turn {cancel_at}, left in turn {leave_at}"
            ended_early += early
            for _ in range(0 if early else RESET_TURNS + 1):  # only the end of an answer does not wait for the reset
                await asyncio.sleep(0)
            assert not page.exclusive.locked(), when
            assert page.resets == page.conversations, when
    assert ended_early > TURNS

"""One request's conversation with the chat page: one prompt, or several, each after the answer to the one before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from browser.capture.findings import Reasoning
from browser.page.completion import Completion
from browser.page.images import Image
from browser.site.schema import Model
from browser.timeouts import finish
from contract.errors import TabfleetError


class EnoughRead(TabfleetError):
    """Thrown into `Conversation.ask` by a reader who needs no more of the answer."""


@dataclass(frozen=True)
class PageTurns:
    """What a conversation has the page do. `number` is the prompt's in the conversation, 1 for the first.

    `begin` makes the completion of a prompt that follows the one given, if any; `explain` returns the error to raise
    for one that a prompt met; `release` brings the page to an empty conversation and frees it.
    """

    begin: Callable[[int, Completion | None], Awaitable[Completion]]
    explain: Callable[[int, Exception, Completion | None], Awaitable[Exception]]
    release: Callable[[Completion | None], Coroutine[Any, Any, None]]


class Conversation:
    """Begun empty, and asked once or more; `async with` waits for the page, and ends the conversation.

    Its end stops an answer that still runs, and returns at once; where a cancellation ends it, or the closing of a
    generator, it returns when the page is on an empty conversation again.
    """

    def __init__(
        self, *, turns: PageTurns, model: Model, exclusive: asyncio.Lock, releases: set[asyncio.Task[None]]
    ) -> None:
        """Made by `ChatPage.converse`. `releases` keeps the tasks that go on after the conversation's end."""
        self._turns = turns
        self._model = model
        self._exclusive = exclusive
        self._releases = releases
        self._completion: Completion | None = None
        self._prompts = 0

    async def __aenter__(self) -> Self:
        """Wait for the page."""
        await self._exclusive.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Have the page opened on an empty conversation."""
        release = self._turns.release(self._completion)
        if isinstance(error, GeneratorExit | asyncio.CancelledError):
            # To whoever cancels a request, its end says that the page may be given to the next one.
            await finish(release, "page-release")
        else:
            # The end of an answer does not wait for the next empty conversation.
            task = asyncio.create_task(release, name="page-release")
            self._releases.add(task)
            task.add_done_callback(self._releases.discard)

    async def ask(self, prompt: str, images: Sequence[Image] = ()) -> AsyncGenerator[str | Reasoning, None]:
        """Send a prompt with its images, and yield the answer's text and its reasoning as they come, in order.

        The generator's end is the answer's end. EnoughRead, thrown into it, ends it at once. A prompt after the first
        is a submission of its own; the answer before it is stopped if it still runs. Raises BrowserError.
        """
        self._prompts += 1
        try:
            completion = self._completion = await self._turns.begin(self._prompts, self._completion)
            async with aclosing(completion.stream(prompt, self._model, images)) as pieces:
                async for piece in pieces:
                    yield piece
        except EnoughRead:
            return
        except Exception as error:  # noqa: BLE001 - a dead driver comes as a plain Exception
            raise await self._turns.explain(self._prompts, error, self._completion) from None

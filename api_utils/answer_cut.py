"""Where an answer ends before the page ends it: at a `stop` sequence, or at `max_tokens`.

https://platform.openai.com/docs/api-reference/chat/create: the answer holds the text before the first stop sequence.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

from api_utils.usage import BYTES_A_TOKEN, Usage
from browser.capture.findings import Reasoning
from browser.page.conversation import EnoughRead

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True)
class AnswerEnd:
    """How a complete answer ended; `stop_sequence` is the one that it was cut at, if one was."""

    finish_reason: FinishReason
    usage: Usage
    stop_sequence: str | None = None


@dataclass(frozen=True)
class AnswerLimits:
    """`stop` sequences, none of them empty, and how many estimated tokens an answer has at most."""

    stop: tuple[str, ...] = field(default=(), repr=False)
    max_tokens: int | None = None

    @classmethod
    def of(cls, stop: str | Iterable[str] | None, max_tokens: int | None) -> Self:
        """Return those of a request, whose `stop` may be one text, several, and hold empty ones."""
        sequences = [stop] if isinstance(stop, str) else stop or ()
        return cls(tuple(filter(None, sequences)), max_tokens)


class AnswerCut:
    """Passes on an answer's text as it comes, up to the first stop sequence or the most tokens.

    Text is held back only while it could be the beginning of a stop sequence.
    """

    def __init__(self, limits: AnswerLimits) -> None:
        """One answer's."""
        self._stop = limits.stop
        self._most_bytes = None if limits.max_tokens is None else limits.max_tokens * BYTES_A_TOKEN
        self._held = ""
        self.passed_bytes = 0
        """How much was passed on, as UTF-8."""
        self.finish_reason: FinishReason = "stop"
        self.stop_sequence: str | None = None
        """At which one the answer was cut."""
        self.reached = False
        """Whether no more of the answer is needed."""

    def feed(self, piece: str) -> str:
        """Return the text that can be passed on now that the piece has come."""
        text = self._held + piece
        # The sequence that is complete first, so that the cut does not depend on where the pieces end; of those that
        # end in one place the longest.
        found = [(at + len(one), at, one) for one in self._stop if (at := text.find(one)) >= 0]
        if found:
            _, at, self.stop_sequence = min(found)
            self.reached, self._held = True, ""
            return self._pass(text[:at])
        held = max((_overlap(text, sequence) for sequence in self._stop), default=0)
        self._held = text[len(text) - held :]
        return self._pass(text[: len(text) - held])

    def end(self) -> str:
        """Return what was held back, once the page has ended the answer."""
        text, self._held = self._held, ""
        return self._pass(text)

    def begin_again(self) -> None:
        """Drop what was held back: another answer follows, under what is left of the limits."""
        self._held = ""

    def _pass(self, text: str) -> str:
        data = text.encode(errors="replace")
        if self._most_bytes is not None and self.passed_bytes + len(data) > self._most_bytes:
            self.reached, self.finish_reason, self._held = True, "length", ""
            self.stop_sequence = None
            # A character that does not fit whole is left out.
            text = data[: self._most_bytes - self.passed_bytes].decode(errors="ignore")
            data = text.encode()
        self.passed_bytes += len(data)
        return text


def _overlap(text: str, sequence: str) -> int:
    """Return how many characters at the end of the text are the beginning of the sequence, but not all of it."""
    most = min(len(text), len(sequence) - 1)
    return next((size for size in range(most, 0, -1) if text.endswith(sequence[:size])), 0)


async def cut_short(pieces: AsyncGenerator[str | Reasoning], cut: AnswerCut) -> AsyncGenerator[str | Reasoning]:
    """Yield what the cut lets pass, and all reasoning.

    Once it is reached, or EnoughRead is thrown in, nothing more is read.
    """
    async with aclosing(pieces):
        async for piece in pieces:
            enough = False
            if passed := cut.feed(piece) if isinstance(piece, str) else piece:
                try:
                    yield passed
                except EnoughRead:
                    enough = True
            if enough or cut.reached:
                await read_no_more(pieces)
                return
    if text := cut.end():
        with suppress(EnoughRead):
            yield text


async def read_no_more(pieces: AsyncGenerator[Any]) -> None:
    """Tell what `Conversation.ask` gave, or a generator over it, that the rest of the answer is not needed."""
    with suppress(StopAsyncIteration):
        await pieces.athrow(EnoughRead())

"""OpenAI's legacy completions: what a page can be asked by them, and how the answer is written.

Wire formats: https://platform.openai.com/docs/api-reference/completions/create and .../completions/object
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api_utils.answer_cut import AnswerEnd, AnswerLimits, FinishReason
from api_utils.conversation import MOST_STOP_SEQUENCES, Message
from api_utils.dialects.chat import StreamOptions
from api_utils.dialects.validation import refusal_of
from api_utils.json_answer import JsonFormat
from api_utils.tools import ToolCall, ToolUse
from api_utils.usage import ESTIMATED, USAGE_HEADER, Usage
from contract.api_error import bad_request, sse, to_json, unsupported
from contract.dialects.dialect import DONE

ONLY_HARMLESS: Final[Mapping[str, tuple[tuple[Any, ...], str]]] = {
    "suffix": ((None, ""), "a page answers, it does not fill gaps"),
    "echo": ((None, False), "a page answers without the prompt"),
    "n": ((None, 1), "a page gives one answer"),
    "best_of": ((None, 1), "a page gives one answer"),
    "logprobs": ((None, False), "a web chat page has no such feature"),
}
"""Parameters with the values that ask for nothing special, and why another value is refused."""


class CompletionBody(BaseModel):
    """The parameters that matter; what shapes sampling may be there and has no effect."""

    model_config = ConfigDict(extra="allow")
    model: Annotated[str, Field(min_length=1)]
    prompt: str | list[Any]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    stop: str | Annotated[list[str], Field(max_length=MOST_STOP_SEQUENCES)] | None = None
    max_tokens: Annotated[int, Field(gt=0)] | None = None


@dataclass(frozen=True)
class CompletionRequest:
    """A `PageRequest`: the prompt as a lone user message."""

    model: str
    messages: Sequence[Message]
    stream: bool
    limits: AnswerLimits
    wants_usage: bool
    tool_use: ToolUse | None = None
    json_format: JsonFormat | None = None

    def answer_format(self, request_id: str, *, prompt_tokens: int | None) -> TextCompletion:
        """Return how the answer is written. A stream ends with the usage only where that is asked for."""
        return TextCompletion(request_id, self.model, with_usage=prompt_tokens is not None and self.wants_usage)


def parse_completion_request(body: Any) -> CompletionRequest:
    """Return a decoded JSON body as a request. Raises ApiError (400) that names the parameter at fault."""
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object with model and prompt")
    try:
        given = CompletionBody.model_validate(body)
    except ValidationError as error:
        raise refusal_of(error) from None
    for name, (harmless, why) in ONLY_HARMLESS.items():
        # Compared with their types: to Python 0 and False are equal, and `logprobs: 0` asks for something.
        if not any(type(value) is type(body.get(name)) and value == body.get(name) for value in harmless):
            raise unsupported(name, why)
    return CompletionRequest(
        given.model,
        [Message(role="user", content=_only_text(given.prompt))],
        bool(given.stream),
        AnswerLimits.of(given.stop, given.max_tokens),
        wants_usage=not given.stream or bool(given.stream_options and given.stream_options.include_usage),
    )


def _only_text(prompt: str | list[Any]) -> str:
    texts = [prompt] if isinstance(prompt, str) else prompt
    if any(not isinstance(text, str) for text in texts):
        raise bad_request("prompt: must be text; token ids mean nothing to a page", param="prompt")
    if len(texts) != 1:
        raise bad_request("prompt: must be one text; ask for each in a request of its own", param="prompt")
    if not texts[0].strip():
        raise bad_request("prompt: has no words", param="prompt")
    return str(texts[0])


class TextCompletion:
    """An `AnswerFormat`. It has no place for calls of tools, which are never declared, nor for a page's reasoning."""

    def __init__(self, request_id: str, model: str, *, with_usage: bool) -> None:
        """The request's id becomes part of the completion's. `with_usage` asks for the estimate of tokens."""
        self._shared = {
            "id": f"cmpl-{request_id}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._with_usage = with_usage

    @property
    def headers(self) -> dict[str, str]:
        """Return what the response's head says of the answer."""
        return {USAGE_HEADER: ESTIMATED} if self._with_usage else {}

    def whole(self, text: str, calls: Sequence[ToolCall], end: AnswerEnd, reasoning: str = "") -> bytes:
        """Return the answer as one JSON body, which has no place for `reasoning`."""
        return to_json(self._completion([_choice(text, end.finish_reason)], end.usage))

    def begin(self) -> bytes:
        """Return nothing: the first piece is the first event."""
        return b""

    def piece(self, text: str) -> bytes:
        """Return the event for the next piece of text."""
        return sse(to_json(self._completion([_choice(text, None)], None)))

    def reasoning(self, text: str) -> bytes:
        """Return nothing: there is no such event."""
        return b""

    def tool_call(self, index: int, call: ToolCall) -> bytes:
        """Return nothing: there is no such event."""
        return b""

    def end(self, end: AnswerEnd) -> bytes:
        """Return the events after the last piece of a complete answer."""
        last = sse(to_json(self._completion([_choice("", end.finish_reason)], None)))
        usage = sse(to_json(self._completion([], end.usage))) if self._with_usage else b""
        return last + usage + DONE

    def _completion(self, choices: list[dict[str, Any]], usage: Usage | None) -> dict[str, Any]:
        completion = {**self._shared, "choices": choices}
        # Where usage is asked for, OpenAI's other chunks have it too, as null.
        return {**completion, "usage": usage and usage.to_openai()} if self._with_usage else completion


def _choice(text: str, finish_reason: FinishReason | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}

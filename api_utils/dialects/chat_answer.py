"""OpenAI's chat completions: how an answer is written.

Wire formats: https://platform.openai.com/docs/api-reference/chat/object and .../chat/streaming
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from api_utils.answer_cut import AnswerEnd, FinishReason
from api_utils.tools import ToolCall
from api_utils.usage import ESTIMATED, USAGE_HEADER
from contract.api_error import sse, to_json

_DONE: Final = sse(b"[DONE]")


class ChatCompletion:
    """An `AnswerFormat`."""

    def __init__(self, request_id: str, model: str, *, with_usage: bool) -> None:
        """The request's id becomes part of the completion's. `with_usage` asks for the estimate of tokens."""
        self._shared = {"id": f"chatcmpl-{request_id}", "created": int(time.time()), "model": model}
        self._with_usage = with_usage

    @property
    def headers(self) -> dict[str, str]:
        """Return what the response's head says of the answer."""
        return {USAGE_HEADER: ESTIMATED} if self._with_usage else {}

    def whole(self, text: str, calls: Sequence[ToolCall], end: AnswerEnd, reasoning: str = "") -> bytes:
        """Return the answer as one JSON body."""
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls:
            message |= {"content": text or None, "tool_calls": [_tool_call(call) for call in calls]}
        if reasoning:
            message["reasoning_content"] = reasoning
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": end.finish_reason}
        body = {**self._shared, "object": "chat.completion", "choices": [choice]}
        return to_json({**body, "usage": end.usage.to_openai()} if self._with_usage else body)

    def begin(self) -> bytes:
        """Return the event that comes before the first piece of text."""
        return self._event({"role": "assistant", "content": "", "refusal": None})

    def piece(self, text: str) -> bytes:
        """Return the event for the next piece of text."""
        return self._event({"content": text})

    def reasoning(self, text: str) -> bytes:
        """Return the event for the next piece of the reasoning.

        OpenAI's own API shows none; the field is DeepSeek's, which vLLM and others have too:
        https://api-docs.deepseek.com/guides/reasoning_model
        """
        return self._event({"reasoning_content": text})

    def tool_call(self, index: int, call: ToolCall) -> bytes:
        """Return the event for the next call of a tool."""
        return self._event({"tool_calls": [{"index": index, **_tool_call(call)}]})

    def end(self, end: AnswerEnd) -> bytes:
        """Return the events after the last piece of a complete answer."""
        usage = self._chunk([], end.usage.to_openai()) if self._with_usage else b""
        return self._event({}, finish_reason=end.finish_reason) + usage + _DONE

    def _event(self, delta: dict[str, Any], *, finish_reason: FinishReason | None = None) -> bytes:
        return self._chunk([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}], None)

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
        chunk = {**self._shared, "object": "chat.completion.chunk", "choices": choices}
        # Where usage is asked for, OpenAI's other chunks have it too, as null.
        return sse(to_json({**chunk, "usage": usage} if self._with_usage else chunk))


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}

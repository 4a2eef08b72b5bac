"""OpenAI's chat completions: how an answer is written.

Wire formats: https://platform.openai.com/docs/api-reference/chat/object and .../chat/streaming
"""

from __future__ import annotations

import time
from typing import Any, Final

from contract.api_error import sse, to_json

_DONE: Final = sse(b"[DONE]")


class ChatCompletion:
    """An `AnswerFormat`. There is no `usage`: a page tells none."""

    def __init__(self, request_id: str, model: str) -> None:
        """The request's id becomes part of the completion's."""
        self._shared = {"id": f"chatcmpl-{request_id}", "created": int(time.time()), "model": model}

    def whole(self, text: str) -> bytes:
        """Return the answer as one JSON body."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return to_json({**self._shared, "object": "chat.completion", "choices": [choice]})

    def begin(self) -> bytes:
        """Return the event that comes before the first piece of text."""
        return self._event({"role": "assistant", "content": "", "refusal": None})

    def piece(self, text: str) -> bytes:
        """Return the event for the next piece of text."""
        return self._event({"content": text})

    def end(self) -> bytes:
        """Return the events after the last piece of a complete answer."""
        return self._event({}, finish_reason="stop") + _DONE

    def _event(self, delta: dict[str, Any], *, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return sse(to_json({**self._shared, "object": "chat.completion.chunk", "choices": [choice]}))

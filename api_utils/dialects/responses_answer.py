"""OpenAI's Responses: how an answer is written.

Wire formats: https://platform.openai.com/docs/api-reference/responses/object and .../responses-streaming
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from api_utils.answer_cut import AnswerEnd
from api_utils.tools import ToolCall
from api_utils.usage import ESTIMATED, USAGE_HEADER, Usage
from contract.api_error import sse, to_json
from contract.dialects.dialect import END_COMMENT

_Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class ResponsesAnswer:
    """An `AnswerFormat`. Text and each call of a tool are items of the response's output, in the order they came."""

    def __init__(self, request_id: str, shown: Mapping[str, Any], *, with_usage: bool) -> None:
        """One answer's. The request's id becomes part of all ids in it; `shown` is what it repeats of the request.

        Raises ValueError or RecursionError where that cannot be written as JSON.
        """
        self._request_id = request_id
        head = {"id": f"resp_{request_id}", "object": "response", "created_at": int(time.time())}
        # Written once, before anything is submitted: a stream repeats it three times, and it may be long.
        self._shared = to_json({**head, "error": None, **shown})[:-1]
        self._with_usage = with_usage
        self._output: list[dict[str, Any]] = []
        self._open: list[str] = []  # what the item at work holds
        self._open_kind: Literal["msg", "rs"] | None = None
        self._events = 0

    @property
    def headers(self) -> dict[str, str]:
        """Return what the response's head says of the answer."""
        return {USAGE_HEADER: ESTIMATED} if self._with_usage else {}

    def whole(self, text: str, calls: Sequence[ToolCall], end: AnswerEnd, reasoning: str = "") -> bytes:
        """Return the answer as one JSON body."""
        if reasoning:
            self._output.append(self._reasoning([_summary(reasoning)]))
        if text or not calls:
            self._output.append(self._message([_part(text)], _status_of(end)))
        for call in calls:
            self._output.append(self._call(call, call.arguments, "completed"))
        return self._response(_status_of(end), end.usage)

    def begin(self) -> bytes:
        """Return the events that come before the first piece of text."""
        return self._response_event("created", "in_progress", None) + self._response_event(
            "in_progress", "in_progress", None
        )

    def piece(self, text: str) -> bytes:
        """Return the events for the next piece of text."""
        events = b""
        if self._open_kind != "msg":
            events = self._end_open("completed") + self._item_event("added", self._message([], "in_progress"))
            events += self._text_event("response.content_part.added", part=_part(""))
            self._open_kind = "msg"
        self._open.append(text)
        return events + self._text_event("response.output_text.delta", delta=text, logprobs=[])

    def reasoning(self, text: str) -> bytes:
        """Return the events for the next piece of the reasoning."""
        events = b""
        if self._open_kind != "rs":
            events = self._end_open("completed") + self._item_event("added", self._reasoning([]))
            events += self._summary_event("response.reasoning_summary_part.added", part=_summary(""))
            self._open_kind = "rs"
        self._open.append(text)
        return events + self._summary_event("response.reasoning_summary_text.delta", delta=text)

    def tool_call(self, index: int, call: ToolCall) -> bytes:
        """Return the events for the next call of a tool."""
        events = self._end_open("completed")
        begun = self._call(call, "", "in_progress")
        place = {"item_id": begun["id"], "output_index": len(self._output)}
        events += self._item_event("added", begun)
        events += self._event("response.function_call_arguments.delta", **place, delta=call.arguments)
        events += self._event(
            "response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments
        )
        return events + self._end_item(self._call(call, call.arguments, "completed"))

    def end(self, end: AnswerEnd) -> bytes:
        """Return the events after the last piece of a complete answer."""
        status = _status_of(end)
        has_more = self._open_kind == "msg" or any(item["type"] != "reasoning" for item in self._output)
        events = b"" if has_more else self.piece("")
        events += self._end_open(status)
        return events + self._response_event(status, status, end.usage) + END_COMMENT

    def _end_open(self, status: _Status) -> bytes:
        """Return the events that end the item at work, if there is one."""
        kind, text = self._open_kind, "".join(self._open)
        self._open, self._open_kind = [], None
        if kind is None:
            return b""
        if kind == "rs":
            events = self._summary_event("response.reasoning_summary_text.done", text=text)
            events += self._summary_event("response.reasoning_summary_part.done", part=_summary(text))
            return events + self._end_item(self._reasoning([_summary(text)]))
        events = self._text_event("response.output_text.done", text=text, logprobs=[])
        events += self._text_event("response.content_part.done", part=_part(text))
        return events + self._end_item(self._message([_part(text)], status))

    def _end_item(self, item: dict[str, Any]) -> bytes:
        event = self._item_event("done", item)
        self._output.append(item)
        return event

    def _item_event(self, what: str, item: dict[str, Any]) -> bytes:
        return self._event(f"response.output_item.{what}", output_index=len(self._output), item=item)

    def _text_event(self, kind: str, **data: Any) -> bytes:
        """Return an event of the message that is being written, which has one part."""
        index = len(self._output)
        return self._event(kind, item_id=self._id("msg"), output_index=index, content_index=0, **data)

    def _summary_event(self, kind: str, **data: Any) -> bytes:
        """Return an event of the reasoning that is being written, whose summary has one part."""
        return self._event(kind, item_id=self._id("rs"), output_index=len(self._output), summary_index=0, **data)

    def _response_event(self, what: str, status: _Status, usage: Usage | None) -> bytes:
        return self._event(f"response.{what}", b',"response":' + self._response(status, usage))

    def _event(self, kind: str, more: bytes = b"", **data: Any) -> bytes:
        """Return an event; `more` is what follows `data` as JSON, with its comma."""
        event = to_json({"type": kind, "sequence_number": self._events, **data})
        self._events += 1
        return sse(event[:-1] + more + b"}", kind)

    def _id(self, kind: str) -> str:
        """Return the id of the next item of the output."""
        return f"{kind}_{self._request_id}_{len(self._output)}"

    def _message(self, content: list[dict[str, Any]], status: _Status) -> dict[str, Any]:
        return {
            "id": self._id("msg"),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        }

    def _reasoning(self, summary: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._id("rs"), "type": "reasoning", "summary": summary}

    def _call(self, call: ToolCall, arguments: str, status: _Status) -> dict[str, Any]:
        return {
            "id": self._id("fc"),
            "type": "function_call",
            "status": status,
            "call_id": call.id,
            "name": call.name,
            "arguments": arguments,
        }

    def _response(self, status: _Status, usage: Usage | None) -> bytes:
        """Return the response as it is now, as JSON."""
        own = {
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "output": self._output,
            "usage": _usage(usage) if usage and self._with_usage else None,
        }
        return self._shared + b"," + to_json(own)[1:]


def _status_of(end: AnswerEnd) -> Literal["completed", "incomplete"]:
    return "incomplete" if end.finish_reason == "length" else "completed"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }

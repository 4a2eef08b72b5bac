"""Anthropic's Messages: https://docs.claude.com/en/api/messages."""

from __future__ import annotations

from typing import Any, Final, Literal

from typing_extensions import TypedDict

from api_utils.dialects.messages import UNSUPPORTED, MessagesBody
from contract.api_error import ErrorCode
from contract.dialects.messages import COUNT_TOKENS_PATH, MESSAGES
from openapi.operation import ASKS_A_PAGE, EVENTS, JSON, TAKES_A_PROMPT, Operation


class MessagesErrorDetail(TypedDict):
    """What was wrong. `param` and `code` are Tabfleet's own."""

    type: str
    message: str
    param: str | None
    code: ErrorCode


class MessagesError(TypedDict):
    """An error in Anthropic's form."""

    type: Literal["error"]
    error: MessagesErrorDetail


class AnsweredText(TypedDict):
    """Text of the answer."""

    type: Literal["text"]
    text: str


class AnsweredToolUse(TypedDict):
    """A call of a tool that the request declared."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class AnsweredThinking(TypedDict):
    """What a page shows of its reasoning, which nobody signs."""

    type: Literal["thinking"]
    thinking: str
    signature: Literal[""]


AnsweredBlock = AnsweredText | AnsweredToolUse | AnsweredThinking
StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class MessagesUsage(TypedDict):
    """An estimate, as everywhere here; zero where none is made."""

    input_tokens: int
    output_tokens: int


class AnsweredMessage(TypedDict):
    """A whole answer."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[AnsweredBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessagesUsage


class MessageStart(TypedDict):
    """The first event; its message has no content yet."""

    type: Literal["message_start"]
    message: AnsweredMessage


class ContentBlockStart(TypedDict):
    """A block begins."""

    type: Literal["content_block_start"]
    index: int
    content_block: AnsweredBlock


class TextDelta(TypedDict):
    """The next piece of a text."""

    type: Literal["text_delta"]
    text: str


class ThinkingDelta(TypedDict):
    """The next piece of the reasoning."""

    type: Literal["thinking_delta"]
    thinking: str


class InputJsonDelta(TypedDict):
    """What a tool is called with."""

    type: Literal["input_json_delta"]
    partial_json: str


class ContentBlockDelta(TypedDict):
    """More of a block."""

    type: Literal["content_block_delta"]
    index: int
    delta: TextDelta | ThinkingDelta | InputJsonDelta


class ContentBlockStop(TypedDict):
    """A block is complete."""

    type: Literal["content_block_stop"]
    index: int


class StopDetail(TypedDict):
    """Why the answer ends."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(TypedDict):
    """The answer is complete."""

    type: Literal["message_delta"]
    delta: StopDetail
    usage: MessagesUsage


class MessageStop(TypedDict):
    """The last event."""

    type: Literal["message_stop"]


MessagesEvent = (
    MessageStart | ContentBlockStart | ContentBlockDelta | ContentBlockStop | MessageDelta | MessageStop | MessagesError
)


class CountedTokens(TypedDict):
    """An estimate of what a request would type into the page."""

    input_tokens: int


_ABOUT: Final = """\
A page is asked as by `/v1/chat/completions`. With `stream` the answer is `text/event-stream`, with Anthropic's events.
A stream that fails midway ends with an event `error` and without `message_stop`. `max_tokens` may be left out."""

_MORE: Final = {
    **{name: {"description": "Accepted, without effect."} for name in ("temperature", "top_p", "top_k", "metadata")},
    **{name: {"type": "null", "description": f"Not supported: {why}."} for name, why in UNSUPPORTED.items()},
}
_HELLO: Final = {
    "model": "demo-small",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "What is a quay?"}],
}
_WEATHER: Final = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

OPERATIONS: Final = (
    Operation(
        "post",
        MESSAGES.path,
        "createMessage",
        "chat",
        "Ask a page in Anthropic's dialect",
        {JSON: AnsweredMessage, EVENTS: MessagesEvent},
        description=_ABOUT,
        body=MessagesBody,
        more=_MORE,
        examples={
            "plain": _HELLO,
            "streamed": {**_HELLO, "stream": True},
            "tools": {**_HELLO, "tools": [_WEATHER]},
            "streamed_tools": {**_HELLO, "tools": [_WEATHER], "stream": True},
        },
        codes=ASKS_A_PAGE,
        error=MessagesError,
    ),
    Operation(
        "post",
        COUNT_TOKENS_PATH,
        "countTokens",
        "chat",
        "Estimate the tokens of a request in Anthropic's dialect",
        {JSON: CountedTokens},
        description="No page is asked.",
        body=MessagesBody,
        examples={"plain": _HELLO},
        codes=TAKES_A_PROMPT,
        error=MessagesError,
    ),
)

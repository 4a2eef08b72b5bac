"""Anthropic's Messages: what a page can be asked by them, and how the answer is written.

Wire formats: https://docs.claude.com/en/api/messages and https://docs.claude.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, FailFast, Field, Tag, ValidationError
from typing_extensions import TypeAliasType

from api_utils.answer_cut import AnswerEnd, AnswerLimits, FinishReason
from api_utils.conversation import MOST_STOP_SEQUENCES, MOST_TOOLS, Message, Part, PastCall, PastFunction
from api_utils.dialects.validation import refusal_of
from api_utils.json_answer import JsonFormat
from api_utils.json_schema import check_schema
from api_utils.tools import Tool, ToolCall, ToolUse
from api_utils.usage import ESTIMATED, USAGE_HEADER
from contract.api_error import bad_request, sse, to_json, unsupported
from contract.chat_body import MOST_PARTS, check_amount
from contract.dialects.dialect import END_COMMENT

_THOUGHTS: Final = ("thinking", "redacted_thinking")
"""Blocks that an earlier answer did not say aloud; a page is not told of them."""

_STOP_REASONS: Final[Mapping[FinishReason, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
}

UNSUPPORTED: Final[Mapping[str, str]] = {
    "mcp_servers": "a page calls no servers",
    "container": "a page runs no code",
}


class _Given(BaseModel):
    model_config = ConfigDict(extra="allow")


class TextBlock(_Given):
    """Text."""

    type: Literal["text"]
    text: str


class ImageSource(_Given):
    """Where an image is. `media_type` has no say: an image is what its bytes are."""

    type: str
    media_type: str = "image/*"
    data: str | None = None


class ImageBlock(_Given):
    """An image."""

    type: Literal["image"]
    source: ImageSource


class ToolUseBlock(_Given):
    """A call in an earlier answer."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class OtherBlock(_Given):
    """A block of a type that a page cannot be given."""

    type: str


def _tag_of(block: Any) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    return f"<{kind}>" if kind in ("text", "image", "tool_use", "tool_result") else "<other>"


def _inner_tag_of(block: Any) -> str:
    tag = _tag_of(block)
    return tag if tag in ("<text>", "<image>") else "<other>"


_Text = Annotated[TextBlock, Tag("<text>")]
_Image = Annotated[ImageBlock, Tag("<image>")]
_Other = Annotated[OtherBlock, Tag("<other>")]

# All lists stop at the first error: an error object for each of a million bad items costs gigabytes. Aliases of their
# own, because FailFast cannot be hashed, which a member of a union must be.
_InnerBlocks = TypeAliasType(
    "_InnerBlocks", Annotated[list[Annotated[_Text | _Image | _Other, Discriminator(_inner_tag_of)]], FailFast()]
)


class ToolResultBlock(_Given):
    """What a tool said."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: str | _InnerBlocks | None = None
    is_error: bool | None = False


_Blocks = TypeAliasType(
    "_Blocks",
    Annotated[
        list[
            Annotated[
                _Text
                | _Image
                | Annotated[ToolUseBlock, Tag("<tool_use>")]
                | Annotated[ToolResultBlock, Tag("<tool_result>")]
                | _Other,
                Discriminator(_tag_of),
            ]
        ],
        FailFast(),
    ],
)
_System = TypeAliasType("_System", Annotated[list[TextBlock], Field(max_length=MOST_PARTS), FailFast()])


class Turn(_Given):
    """One message of the conversation."""

    role: Literal["user", "assistant"]
    content: str | _Blocks


class ToolDeclaration(_Given):
    """A tool that the caller has. One of Anthropic's own has another `type` than `custom`, and no schema."""

    type: str | None = None
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")] | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


_Tools = TypeAliasType("_Tools", Annotated[list[ToolDeclaration], Field(max_length=MOST_TOOLS), FailFast()])


class ToolChoice(_Given):
    """How the tools are to be used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = False


class OutputFormat(_Given):
    """What JSON the answer is to be."""

    type: Literal["json_schema"]
    given: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(_Given):
    """What the answer is to be; `effort` has no effect."""

    format: OutputFormat | None = None


class MessagesBody(_Given):
    """The parameters that matter; what shapes sampling or accounting may be there and has no effect."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Turn], Field(min_length=1), FailFast()]
    system: str | _System | None = None
    stream: bool | None = False
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    stop_sequences: Annotated[list[str], Field(max_length=MOST_STOP_SEQUENCES)] | None = None
    tools: _Tools | None = None
    tool_choice: ToolChoice | None = None
    output_config: OutputConfig | None = None


@dataclass(frozen=True)
class MessagesRequest:
    """A `PageRequest`."""

    model: str
    messages: Sequence[Message]
    stream: bool
    limits: AnswerLimits
    tool_use: ToolUse | None
    json_format: JsonFormat | None

    def answer_format(self, request_id: str, *, prompt_tokens: int | None) -> MessagesAnswer:
        """Return how the answer is written."""
        return MessagesAnswer(request_id, self.model, prompt_tokens)


def parse_messages_request(body: Any) -> MessagesRequest:
    """Return a decoded JSON body as a request. Raises ApiError (400) that names the parameter at fault."""
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object with model and messages")
    if isinstance(messages := body.get("messages"), list):
        check_amount(messages)
        contents = (turn.get("content") for turn in messages if isinstance(turn, dict))
        # The result of a tool is a part that has parts.
        check_amount([block for content in contents if isinstance(content, list) for block in content])
    try:
        given = MessagesBody.model_validate(body)
    except ValidationError as error:
        raise refusal_of(error) from None
    for name, why in UNSUPPORTED.items():
        if body.get(name):
            raise unsupported(name, why)
    return MessagesRequest(
        given.model,
        [*_system(given), *(message for index, turn in enumerate(given.messages) for message in _told(turn, index))],
        bool(given.stream),
        AnswerLimits.of(given.stop_sequences, given.max_tokens),
        _tool_use(given.tools or (), given.tool_choice),
        _json_format(given.output_config),
    )


def _system(given: MessagesBody) -> Iterator[Message]:
    texts = [given.system] if isinstance(given.system, str) else [block.text for block in given.system or ()]
    if any(texts):
        yield Message(role="system", content=[Part(type="text", text=text) for text in texts])


def _told(turn: Turn, number: int) -> Iterator[Message]:
    """Yield what one turn says in its order: words and calls of a speaker together, each tool's result for itself."""
    blocks = [TextBlock(type="text", text=turn.content)] if isinstance(turn.content, str) else turn.content
    parts: list[Part] = []
    calls: list[PastCall] = []

    def pending() -> Iterator[Message]:
        if parts or calls:
            yield Message(role=turn.role, content=[*parts], tool_calls=[*calls])
        parts.clear()
        calls.clear()

    for index, block in enumerate(blocks):
        at = f"messages[{number}].content[{index}]"
        if block.type in _THOUGHTS:
            continue
        # A message's calls stand after its words.
        if isinstance(block, ToolResultBlock) or (calls and not isinstance(block, ToolUseBlock)):
            yield from pending()
        match block:
            case TextBlock():
                parts.append(Part(type="text", text=block.text))
            case ImageBlock() if turn.role == "user":
                parts.append(_image(block, at))
            case ToolUseBlock() if turn.role == "assistant":
                arguments = json.dumps(block.input, ensure_ascii=False)
                calls.append(PastCall(id=block.id, function=PastFunction(name=block.name, arguments=arguments)))
            case ToolResultBlock() if turn.role == "user":
                yield Message(role="tool", tool_call_id=block.tool_use_id, content=_result(block, at))
            case _:
                taken = "text, images and results of tools" if turn.role == "user" else "text and calls of tools"
                raise unsupported(at, f"only {taken} can stand here, not {block.type[:40]!r}")
    yield from pending()


def _result(result: ToolResultBlock, where: str) -> list[Part]:
    parts = [Part(type="text", text="Error:")] if result.is_error else []
    if isinstance(result.content, str):
        return [*parts, Part(type="text", text=result.content)]
    for index, block in enumerate(result.content or ()):
        at = f"{where}.content[{index}]"
        match block:
            case TextBlock():
                parts.append(Part(type="text", text=block.text))
            case ImageBlock():
                parts.append(_image(block, at))
            case OtherBlock():
                raise unsupported(at, f"only text and images can stand here, not {block.type[:40]!r}")
    return parts


def _image(block: ImageBlock, where: str) -> Part:
    at, source = f"{where}.source", block.source
    if source.type == "url":
        message = "images are not fetched from addresses here; send the image itself, as a base64 source"
        raise bad_request(f"{at}: {message}", param=at)
    if source.type != "base64":
        raise unsupported(at, f"only base64 sources are taken, not {source.type[:40]!r}")
    if source.data is None:
        raise bad_request(f"{at}.data: Field required", param=f"{at}.data")
    label = source.media_type.partition(";")[0].partition(",")[0]
    return Part.image(f"data:{label};base64,{source.data}", place=at)


def _tool_use(declared: Sequence[ToolDeclaration], choice: ToolChoice | None) -> ToolUse | None:
    """Return the tools that the page is told of. Raises ApiError (400) for those that it cannot be."""
    tools: dict[str, Tool] = {}
    for index, given in enumerate(declared):
        where = f"tools[{index}]"
        if given.type not in (None, "custom"):
            raise unsupported(f"{where}.type", f"only tools of the caller's own can be called, not {given.type[:40]!r}")
        if given.name is None:
            raise bad_request(f"{where}.name: Field required", param=f"{where}.name")
        if given.name in tools:
            raise bad_request(f"{where}.name: another tool has this name", param=f"{where}.name")
        where = f"{where}.input_schema"
        if given.input_schema is None:
            raise bad_request(f"{where}: Field required", param=where)
        check_schema(given.input_schema, where)
        tools[given.name] = Tool(given.name, given.description or "", given.input_schema)
    choice = choice or ToolChoice(type="auto")
    only = choice.name if choice.type == "tool" else None
    if choice.type == "tool" and only not in tools:
        raise bad_request("tool_choice.name: must be the name of one of the tools", param="tool_choice.name")
    if choice.type == "any" and not tools:
        raise bad_request("tool_choice: asks for a call, but there are no tools", param="tool_choice")
    if choice.type == "none" or not tools:
        return None
    required, parallel = choice.type in ("any", "tool"), not choice.disable_parallel_tool_use
    return ToolUse(tools, required=required, only=only, parallel=parallel)


def _json_format(config: OutputConfig | None) -> JsonFormat | None:
    if config is None or config.format is None:
        return None
    check_schema(config.format.given, "output_config.format.schema")
    return JsonFormat(config.format.given)


class MessagesAnswer:
    """An `AnswerFormat`. Clients of this dialect fail without a usage, so that it is zero where none is estimated."""

    def __init__(self, request_id: str, model: str, prompt_tokens: int | None) -> None:
        """The request's id becomes part of the message's. Without `prompt_tokens` no tokens are told."""
        self._shared = {"id": f"msg_{request_id}", "type": "message", "role": "assistant", "model": model}
        self._prompt_tokens = prompt_tokens
        self._blocks = 0  # that have begun
        self._open: str | None = None  # the type of a block that goes on

    @property
    def headers(self) -> dict[str, str]:
        """Return what the response's head says of the answer."""
        return {} if self._prompt_tokens is None else {USAGE_HEADER: ESTIMATED}

    def whole(self, text: str, calls: Sequence[ToolCall], end: AnswerEnd, reasoning: str = "") -> bytes:
        """Return the answer as one JSON body."""
        content: list[dict[str, Any]] = [{**_THINKING, "thinking": reasoning}] if reasoning else []
        content += [{"type": "text", "text": text}] if text else []
        content += [{**_tool_use_block(call), "input": json.loads(call.arguments)} for call in calls]
        return to_json({**self._shared, "content": content, **_reason(end), "usage": self._usage(end)})

    def begin(self) -> bytes:
        """Return the event that comes before the first piece of text."""
        empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
        return _event("message_start", message={**self._shared, **empty, "usage": self._usage(None)})

    def piece(self, text: str) -> bytes:
        """Return the events for the next piece of text."""
        begin = self._go_on_in({"type": "text", "text": ""})
        return begin + self._delta({"type": "text_delta", "text": text})

    def reasoning(self, text: str) -> bytes:
        """Return the events for the next piece of the reasoning."""
        return self._go_on_in(_THINKING) + self._delta({"type": "thinking_delta", "thinking": text})

    def tool_call(self, index: int, call: ToolCall) -> bytes:
        """Return the events for the next call of a tool."""
        begin = self._end_open() + self._begin_block({**_tool_use_block(call), "input": {}})
        return begin + self._delta({"type": "input_json_delta", "partial_json": call.arguments}) + self._end_block()

    def end(self, end: AnswerEnd) -> bytes:
        """Return the events after the last piece of a complete answer."""
        last = _event("message_delta", delta=_reason(end), usage=self._usage(end))
        return self._end_open() + last + _event("message_stop") + END_COMMENT

    def _begin_block(self, block: dict[str, Any]) -> bytes:
        self._blocks += 1
        return _event("content_block_start", index=self._blocks - 1, content_block=block)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._blocks - 1, delta=delta)

    def _end_block(self) -> bytes:
        return _event("content_block_stop", index=self._blocks - 1)

    def _go_on_in(self, block: dict[str, Any]) -> bytes:
        """Return the events before more of such a block: none if it is the one that goes on."""
        if self._open == block["type"]:
            return b""
        end, self._open = self._end_open(), block["type"]
        return end + self._begin_block(block)

    def _end_open(self) -> bytes:
        was_open, self._open = self._open is not None, None
        return self._end_block() if was_open else b""

    def _usage(self, end: AnswerEnd | None) -> dict[str, int]:
        """Return the tokens of a complete answer, or of one that begins."""
        if self._prompt_tokens is None:
            return {"input_tokens": 0, "output_tokens": 0}
        if end is None:
            return {"input_tokens": self._prompt_tokens, "output_tokens": 0}
        return {"input_tokens": end.usage.prompt_tokens, "output_tokens": end.usage.completion_tokens}


# Anthropic signs what a model thinks; a page's reasoning has no signature.
_THINKING: Final = {"type": "thinking", "thinking": "", "signature": ""}


def _reason(end: AnswerEnd) -> dict[str, str | None]:
    if end.finish_reason == "stop" and end.stop_sequence is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": end.stop_sequence}
    return {"stop_reason": _STOP_REASONS[end.finish_reason], "stop_sequence": None}


def _tool_use_block(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{call.id.removeprefix('call_')}", "name": call.name}


def _event(kind: str, **data: Any) -> bytes:
    return sse(to_json({"type": kind, **data}), kind)

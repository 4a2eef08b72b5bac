"""A chat completion request: which of OpenAI's parameters a chat page can honour, and which it cannot.

Wire format: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from typing_extensions import TypeAliasType

from api_utils.answer_cut import AnswerLimits
from api_utils.conversation import MOST_STOP_SEQUENCES, MOST_TOOLS, Function, Message
from api_utils.dialects.chat_answer import ChatCompletion
from api_utils.dialects.validation import place_of
from api_utils.json_answer import JsonFormat
from api_utils.json_schema import check_schema
from api_utils.tools import Tool, ToolUse
from contract.api_error import bad_request, unsupported
from contract.chat_body import check_amount

ONLY_HARMLESS: Final[Mapping[str, tuple[tuple[Any, ...], str]]] = {
    "n": ((None, 1), "a page gives one answer"),
    "function_call": ((None, "none", "auto"), "it is the old form of tool_choice"),
    "modalities": ((None, [], ["text"]), "a page answers in text"),
}
"""Parameters with the values that ask for nothing special, and why another value is refused."""


class ToolDeclaration(BaseModel):
    """A tool that the caller has."""

    model_config = ConfigDict(extra="allow")
    type: str
    function: Function | None = None


_Tools = TypeAliasType("_Tools", Annotated[list[ToolDeclaration], Field(max_length=MOST_TOOLS), FailFast()])


class NamedFunction(BaseModel):
    """The one to be called."""

    name: str


class NamedTool(BaseModel):
    """The value of `tool_choice` that asks for one tool."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(BaseModel):
    """What `response_format` names. `strict` needs no field: an answer is held against the schema always."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)
    given: Annotated[dict[str, Any], Field(alias="schema")] = {}


class ResponseFormat(BaseModel):
    """What the answer's text is to be."""

    model_config = ConfigDict(extra="allow")
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(BaseModel):
    """What a stream is to have beside the answer."""

    model_config = ConfigDict(extra="allow")
    include_usage: bool | None = False


class ChatRequest(BaseModel):
    """What the child reads of a request; sampling parameters may be there and have no effect."""

    model_config = ConfigDict(extra="allow")
    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Message], Field(min_length=1), FailFast()]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    tools: _Tools | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = True
    stop: str | Annotated[list[str], Field(max_length=MOST_STOP_SEQUENCES)] | None = None
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    max_completion_tokens: Annotated[int, Field(gt=0)] | None = None

    @property
    def limits(self) -> AnswerLimits:
        """Return where the answer ends at the latest. `max_tokens` is the old name of `max_completion_tokens`."""
        return AnswerLimits.of(self.stop, self.max_completion_tokens or self.max_tokens)

    @property
    def json_format(self) -> JsonFormat | None:
        """Return what JSON the answer is to be, or None. Raises ApiError (400) for a schema that is none."""
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return JsonFormat()
        where = "response_format.json_schema"
        if wanted.json_schema is None:
            raise bad_request(f"{where}: is missing", param=where)
        check_schema(wanted.json_schema.given, f"{where}.schema")
        return JsonFormat(wanted.json_schema.given)

    @property
    def tool_use(self) -> ToolUse | None:
        """Return the tools that the page is told of, or None. Raises ApiError (400) for those that it cannot be."""
        tools: dict[str, Tool] = {}
        for index, given in enumerate(self.tools or ()):
            where, function = f"tools[{index}]", given.function
            if given.type != "function" or function is None:
                raise unsupported(f"{where}.type", f"only functions can be called here, not {given.type[:40]!r}")
            if function.name in tools:
                raise bad_request(f"{where}.function.name: another tool has this name", param=f"{where}.function.name")
            check_schema(function.parameters or {}, f"{where}.function.parameters")
            tools[function.name] = Tool(function.name, function.description or "", function.parameters or {})
        only = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None
        if only is not None and only not in tools:
            raise bad_request("tool_choice names a tool that is not among tools", param="tool_choice")
        if self.tool_choice == "required" and not tools:
            raise bad_request("tool_choice asks for a call, but there are no tools", param="tool_choice")
        if self.tool_choice == "none" or not tools:
            return None
        required = only is not None or self.tool_choice == "required"
        return ToolUse(tools, required=required, only=only, parallel=self.parallel_tool_calls is not False)

    def answer_format(self, request_id: str, *, prompt_tokens: int | None) -> ChatCompletion:
        """Return how the answer is written. A stream ends with the usage only where that is asked for."""
        is_wanted = not self.stream or bool(self.stream_options and self.stream_options.include_usage)
        return ChatCompletion(request_id, self.model, with_usage=prompt_tokens is not None and is_wanted)

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters that have no field."""
        return self.model_extra or {}


def parse_chat_request(body: Any) -> ChatRequest:
    """Return a decoded JSON body as a request. Raises ApiError (400) that names the parameter at fault."""
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object with model and messages")
    if isinstance(messages := body.get("messages"), list):
        check_amount(messages)
    try:
        request = ChatRequest.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = place_of(first["loc"], members=("str", "NamedTool")) or "body"
        raise bad_request(f"{where}: {first['msg']}", param=where) from None
    refuse_unsupported(request)
    return request


def refuse_unsupported(request: ChatRequest) -> None:
    """Raise ApiError (400) for what would change the answer's form and a page cannot give."""
    given = request.parameters
    if given.get("functions"):
        raise unsupported("functions", "it is the old form of tools")
    for name in ("audio", "logprobs", "top_logprobs", "prediction"):
        if given.get(name):
            raise unsupported(name, "a web chat page has no such feature")
    for name, (harmless, why) in ONLY_HARMLESS.items():
        if given.get(name) not in harmless:
            raise unsupported(name, why)
    for index, message in enumerate(request.messages):
        taken = ("text", "refusal", "image_url") if message.role == "user" else ("text", "refusal")
        for part in message.content if isinstance(message.content, list) else []:
            if part.type not in taken:
                what = "text and images go" if message.role == "user" else "only text goes"
                raise unsupported(f"messages[{index}].content", f"{what} into the page here, not {part.type[:40]!r}")

"""A request in OpenAI's Responses dialect, as the conversation that a page is to continue.

Wire format: https://platform.openai.com/docs/api-reference/responses/create

Which responses are kept is the coordinator's business (`coordinator.proxy.responses`): it puts the items that come
before `input` into the body, and replaces references to items by the items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from typing_extensions import TypeAliasType

from api_utils.answer_cut import AnswerLimits
from api_utils.conversation import MOST_TOOLS, Function, Message, Part, PastCall, PastFunction
from api_utils.dialects.responses_answer import ResponsesAnswer
from api_utils.dialects.validation import place_of
from api_utils.json_answer import JsonFormat
from api_utils.json_schema import check_schema
from api_utils.tools import Tool, ToolUse
from contract.api_error import bad_request, unsupported
from contract.chat_body import MOST_PARTS, check_amount
from contract.dialects.responses import EARLIER_FIELD

_M = TypeVar("_M", bound=BaseModel)

# Each stops at the first error, as in `chat_request`.
_Objects = TypeAliasType("_Objects", Annotated[list[dict[str, Any]], Field(max_length=MOST_TOOLS), FailFast()])
_Names = TypeAliasType("_Names", Annotated[list[str], FailFast()])

_TEXTS: Final = ("input_text", "output_text", "text")
_NO_STORE: Final = "a child on its own keeps no responses, only a coordinator does"


class TextFormat(BaseModel):
    """What the answer's text is to be. `strict` needs no field: an answer is held against the schema always."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)
    type: Literal["text", "json_object", "json_schema"]
    given: Annotated[dict[str, Any] | None, Field(alias="schema")] = None


class TextOptions(BaseModel):
    """How the answer's text is to be; its `verbosity` has no effect."""

    model_config = ConfigDict(extra="allow")
    format: TextFormat | None = None


class ToolChoice(BaseModel):
    """The value of `tool_choice` that names tools: one function, or those among which the page may choose."""

    model_config = ConfigDict(extra="allow")
    type: str
    name: str | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: _Objects = []


class ResponsesRequest(BaseModel):
    """What the child reads of a request; what shapes sampling or accounting may be there and has no effect."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)
    model: Annotated[str, Field(min_length=1)]
    input: str | list[Any]
    earlier: Annotated[list[Any] | None, Field(alias=EARLIER_FIELD)] = None
    instructions: str | None = None
    stream: bool | None = False
    store: bool | None = True
    background: bool | None = False
    previous_response_id: str | None = None
    max_output_tokens: Annotated[int, Field(gt=0)] | None = None
    text: TextOptions | None = None
    tools: _Objects | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = True
    include: _Names | None = None
    metadata: dict[str, Any] | None = None

    @property
    def messages(self) -> list[Message]:
        """Return the conversation. Raises ApiError (400) that names the item at fault."""
        messages = [Message(role="system", content=self.instructions)] if self.instructions else []
        for item in (self.earlier or ()) if self.previous_response_id is not None else ():
            _add(messages, item, "previous_response_id")
        if isinstance(self.input, str):
            messages.append(Message(role="user", content=self.input))
        else:
            for index, item in enumerate(self.input):
                _add(messages, item, f"input[{index}]")
        if not any(_says_something(message) for message in messages):
            raise bad_request("input holds neither text nor an image", param="input")
        return messages

    @property
    def limits(self) -> AnswerLimits:
        """Return where the answer ends at the latest."""
        return AnswerLimits(max_tokens=self.max_output_tokens)

    @property
    def json_format(self) -> JsonFormat | None:
        """Return what JSON the answer is to be, or None. Raises ApiError (400) for a schema that is none."""
        wanted = self.text.format if self.text else None
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_object":
            return JsonFormat()
        where = "text.format.schema"
        if wanted.given is None:
            raise bad_request(f"{where}: is missing", param=where)
        check_schema(wanted.given, where)
        return JsonFormat(wanted.given)

    @property
    def tool_use(self) -> ToolUse | None:
        """Return the tools that the page is told of, or None. Raises ApiError (400) for those that it cannot be."""
        choice = self.tool_choice
        if choice == "none":
            return None
        tools: dict[str, Tool] = {}
        for index, given in enumerate(self.tools or ()):
            tool = _tool(given, f"tools[{index}]")
            if tool.name in tools:
                raise bad_request(f"tools[{index}].name: another tool has this name", param=f"tools[{index}].name")
            tools[tool.name] = tool
        only, required = None, choice == "required"
        if isinstance(choice, ToolChoice):
            names = _names_in(choice)
            if strange := [name for name in names if name not in tools]:
                what = f"tool_choice names a tool that is not among tools: {strange[0][:40]!r}"
                raise bad_request(what, param="tool_choice")
            if choice.type == "function":
                only, required = names[0], True
            else:
                tools, required = {name: tools[name] for name in names}, choice.mode == "required"
        if required and not tools:
            raise bad_request("tool_choice asks for a call, but there are no tools", param="tool_choice")
        if not tools:
            return None
        return ToolUse(tools, required=required, only=only, parallel=self.parallel_tool_calls is not False)

    def answer_format(self, request_id: str, *, prompt_tokens: int | None) -> ResponsesAnswer:
        """Return how the answer is written. Raises ApiError (400) for what cannot be repeated in it."""
        try:
            return ResponsesAnswer(request_id, self._shown(), with_usage=prompt_tokens is not None)
        except (ValueError, RecursionError):
            raise bad_request("the body holds half a surrogate pair, or is nested too deeply") from None

    def _shown(self) -> dict[str, Any]:
        """Return what a response repeats of its request. Clients' types ask for some that were not given."""
        given = self.model_extra or {}
        choice: Any = self.tool_choice or "auto"
        if isinstance(choice, ToolChoice):
            choice = choice.model_dump(exclude_unset=True)
        return {
            "background": False,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": given.get("max_tool_calls"),
            "metadata": self.metadata or {},
            "model": self.model,
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id,
            "reasoning": given.get("reasoning") or {"effort": None, "summary": None},
            "store": self.store is not False,
            "temperature": given.get("temperature"),
            "text": self.text.model_dump(by_alias=True, exclude_unset=True) if self.text else _PLAIN_TEXT,
            "tool_choice": choice.model_dump(exclude_unset=True)
            if isinstance(choice, ToolChoice)
            else choice or "auto",
            "tools": [{"parameters": None, "strict": None, **tool} for tool in self.tools or ()],
            "top_p": given.get("top_p"),
            "truncation": given.get("truncation") or "disabled",
            "user": given.get("user"),
        }


_PLAIN_TEXT: Final = {"format": {"type": "text"}}


def parse_responses_request(body: Any) -> ResponsesRequest:
    """Return a decoded JSON body as a request. Raises ApiError (400) that names the parameter at fault."""
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object with model and input")
    for name in ("input", EARLIER_FIELD):
        if isinstance(items := body.get(name), list):
            check_amount(items, "input")
    request = _validated(ResponsesRequest, body, "")
    given = request.model_extra or {}
    if request.background:
        raise unsupported("background", "a page answers while its caller waits")
    if given.get("conversation"):
        raise unsupported("conversation", "no conversations are kept here; previous_response_id continues a response")
    if given.get("prompt"):
        raise unsupported("prompt", "there are no templates of prompts here; send input and instructions")
    if given.get("top_logprobs") or "message.output_text.logprobs" in (request.include or ()):
        name = "top_logprobs" if given.get("top_logprobs") else "include"
        raise unsupported(name, "a web chat page tells no probabilities")
    if request.previous_response_id is not None and request.earlier is None:
        raise unsupported("previous_response_id", _NO_STORE)
    return request


def _validated(model: type[_M], value: Any, where: str) -> _M:
    """Return the value as this model. Raises ApiError (400) with the place, as in `text.format.type`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        within = place_of(first["loc"], members=("str", "ToolChoice"))
        where += within if not where or within.startswith("[") else f".{within}" if within else ""
        raise bad_request(f"{where or 'body'}: {first['msg']}", param=where or None) from None


def _tool(given: Mapping[str, Any], where: str) -> Tool:
    if given.get("type") != "function":
        raise unsupported(f"{where}.type", f"only functions can be called here, not {_named(given.get('type'))}")
    function = _validated(Function, given, where)
    check_schema(function.parameters or {}, f"{where}.parameters")
    return Tool(function.name, function.description or "", function.parameters or {})


def _names_in(choice: ToolChoice) -> list[str]:
    """Return the functions that `tool_choice` names. Raises ApiError (400) where it names anything else."""
    if choice.type == "function":
        return [_text(choice.model_dump(), "name", "tool_choice")]
    if choice.type != "allowed_tools":
        raise unsupported("tool_choice", f"only functions can be called here, not {_named(choice.type)}")
    for index, given in enumerate(choice.tools):
        if given.get("type") != "function":
            what = f"only functions can be called here, not {_named(given.get('type'))}"
            raise unsupported(f"tool_choice.tools[{index}]", what)
    return [_text(given, "name", f"tool_choice.tools[{index}]") for index, given in enumerate(choice.tools)]


def _add(messages: list[Message], item: Any, where: str) -> None:
    """Add an item to the conversation. Raises ApiError (400) for one that a page cannot be given."""
    if not isinstance(item, dict):
        raise bad_request(f"{where}: must be an object", param=where)
    match item.get("type", "message"):
        case "message":
            messages.append(_message(item, where))
        case "function_call":
            function = PastFunction(name=_text(item, "name", where), arguments=_text(item, "arguments", where))
            call = PastCall(id=_text(item, "call_id", where), function=function)
            # A call stands in the message of the same turn, as in the other dialects.
            if not messages or messages[-1].role != "assistant":
                messages.append(Message(role="assistant"))
            messages[-1].tool_calls = messages[-1].tool_calls or []
            messages[-1].tool_calls.append(call)
        case "function_call_output":
            output = item.get("output")
            if not isinstance(output, str):
                output = list(_parts(output, f"{where}.output", with_images=True))
            messages.append(Message(role="tool", tool_call_id=_text(item, "call_id", where), content=output))
        case "reasoning":
            pass  # a page cannot be given what it thought
        case "item_reference":
            raise unsupported(where, _NO_STORE)
        case kind:
            what = f"only messages and calls of functions go into the page here, not {_named(kind)}"
            raise unsupported(where, what)


def _message(item: Mapping[str, Any], where: str) -> Message:
    role, content = item.get("role"), item.get("content")
    if role not in ("user", "assistant", "system", "developer"):
        raise bad_request(f"{where}.role: must be user, assistant, system or developer", param=f"{where}.role")
    if not isinstance(content, str):
        content = list(_parts(content, f"{where}.content", with_images=role == "user"))
    return Message(role=role, content=content)


def _parts(content: Any, where: str, *, with_images: bool) -> Iterator[Part]:
    """Yield the parts of a message, or of a function's output. Raises ApiError (400)."""
    if not isinstance(content, list):
        raise bad_request(f"{where}: must be a text or a list of parts", param=where)
    if len(content) > MOST_PARTS:
        raise bad_request(f"{where} has more than {MOST_PARTS} parts.", param=where)
    for index, part in enumerate(content):
        place = f"{where}[{index}]"
        if not isinstance(part, dict):
            raise bad_request(f"{place}: must be an object", param=place)
        kind = part.get("type")
        if kind in _TEXTS:
            yield Part(type="text", text=_text(part, "text", place))
        elif kind == "refusal":
            yield Part(type="refusal", refusal=_text(part, "refusal", place))
        elif kind == "input_image" and with_images:
            if part.get("file_id"):
                what = "no files are kept here; send the image itself in image_url, as a data: URL"
                raise unsupported(f"{place}.file_id", what)
            yield Part.image(_text(part, "image_url", place), place=f"{place}.image_url")
        else:
            taken = "text and images go" if with_images else "only text goes"
            raise unsupported(place, f"{taken} into the page here, not {_named(kind)}")


def _text(given: Mapping[str, Any], name: str, where: str) -> str:
    """Return a field that must be a text. Raises ApiError (400)."""
    value = given.get(name)
    if not isinstance(value, str):
        raise bad_request(f"{where}.{name}: must be a text", param=f"{where}.{name}")
    return value


def _says_something(message: Message) -> bool:
    if message.calls:
        return True
    if not isinstance(message.content, list):
        return bool((message.content or "").strip())
    return any(part.type == "image_url" or (part.text or part.refusal or "").strip() for part in message.content)


def _named(kind: object) -> str:
    return repr(str(kind)[:40])

"""OpenAI's Responses: https://platform.openai.com/docs/api-reference/responses."""

from __future__ import annotations

from typing import Any, Final, Literal, NotRequired

from typing_extensions import TypedDict

from api_utils.dialects.responses import ResponsesRequest
from contract.api_error import ErrorCode
from contract.dialects.responses import EARLIER_FIELD, RESPONSES
from openapi.answers import ErrorDetail
from openapi.operation import ASKS_A_PAGE, EVENTS, JSON, Operation, Parameter


class InputText(TypedDict):
    """Text."""

    type: Literal["input_text", "output_text", "text"]
    text: str


class InputImage(TypedDict):
    """An image, as a `data:` URL."""

    type: Literal["input_image"]
    image_url: str


class InputMessage(TypedDict):
    """A message of the conversation."""

    type: NotRequired[Literal["message"]]
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[InputText | InputImage]


class PastFunctionCall(TypedDict):
    """A call in an earlier answer. `arguments` is the text of a JSON object."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class FunctionCallOutput(TypedDict):
    """What a function returned."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | list[InputText | InputImage]


class ItemReference(TypedDict):
    """An item of a response that is kept."""

    type: Literal["item_reference"]
    id: str


class FunctionTool(TypedDict):
    """A function that the caller has."""

    type: Literal["function"]
    name: str
    description: NotRequired[str | None]
    parameters: NotRequired[dict[str, Any] | None]
    strict: NotRequired[bool | None]


class ResponsesBody(ResponsesRequest):
    """What a page can be asked in this dialect."""

    input: str | list[InputMessage | PastFunctionCall | FunctionCallOutput | ItemReference]
    tools: list[FunctionTool] | None = None  # type: ignore[assignment] # as the child reads them afterwards


class OutputText(TypedDict):
    """Text of the answer."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


Status = Literal["in_progress", "completed", "incomplete"]


class OutputMessage(TypedDict):
    """The answer's text."""

    id: str
    type: Literal["message"]
    status: Status
    role: Literal["assistant"]
    content: list[OutputText]


class FunctionCall(PastFunctionCall):
    """A call of a function that the request declared."""

    id: str
    status: Status


class SummaryText(TypedDict):
    """Text of the reasoning."""

    type: Literal["summary_text"]
    text: str


class ReasoningItem(TypedDict):
    """What a page shows of its reasoning."""

    id: str
    type: Literal["reasoning"]
    summary: list[SummaryText]


OutputItem = OutputMessage | FunctionCall | ReasoningItem


class InputTokensDetails(TypedDict):
    """Always zero."""

    cached_tokens: Literal[0]
    cache_write_tokens: Literal[0]


class OutputTokensDetails(TypedDict):
    """Of the output's tokens."""

    reasoning_tokens: int


class ResponsesUsage(TypedDict):
    """An estimate, as everywhere here."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(TypedDict):
    """Why an answer ends early."""

    reason: Literal["max_output_tokens"]


class Response(TypedDict):
    """A response, with what it repeats of its request."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    error: None
    incomplete_details: IncompleteDetails | None
    output: list[OutputItem]
    usage: ResponsesUsage | None
    background: Literal[False]
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: Any
    metadata: dict[str, Any]
    model: str
    parallel_tool_calls: bool
    previous_response_id: str | None
    reasoning: Any
    store: bool
    temperature: Any
    text: dict[str, Any]
    tool_choice: Any
    tools: list[dict[str, Any]]
    top_p: Any
    truncation: Any
    user: Any


class _Event(TypedDict):
    sequence_number: int


class ResponseEvent(_Event):
    """The response as a whole, when it begins and when it ends."""

    type: Literal["response.created", "response.in_progress", "response.completed", "response.incomplete"]
    response: Response


class OutputItemEvent(_Event):
    """An item of the output begins or is complete."""

    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem


class _TextEvent(_Event):
    item_id: str
    output_index: int
    content_index: int


class ContentPartEvent(_TextEvent):
    """The part of a message begins or is complete."""

    type: Literal["response.content_part.added", "response.content_part.done"]
    part: OutputText


class OutputTextDelta(_TextEvent):
    """The next piece of the text."""

    type: Literal["response.output_text.delta"]
    delta: str
    logprobs: list[Any]


class OutputTextDone(_TextEvent):
    """The whole text of a part."""

    type: Literal["response.output_text.done"]
    text: str
    logprobs: list[Any]


class _SummaryEvent(_Event):
    item_id: str
    output_index: int
    summary_index: int


class SummaryPartEvent(_SummaryEvent):
    """The part of a reasoning's summary begins or is complete."""

    type: Literal["response.reasoning_summary_part.added", "response.reasoning_summary_part.done"]
    part: SummaryText


class SummaryTextDelta(_SummaryEvent):
    """The next piece of the reasoning."""

    type: Literal["response.reasoning_summary_text.delta"]
    delta: str


class SummaryTextDone(_SummaryEvent):
    """The whole reasoning."""

    type: Literal["response.reasoning_summary_text.done"]
    text: str


class CallArgumentsDelta(_Event):
    """What a function is called with."""

    type: Literal["response.function_call_arguments.delta"]
    item_id: str
    output_index: int
    delta: str


class CallArgumentsDone(_Event):
    """The same once more, with the function's name."""

    type: Literal["response.function_call_arguments.done"]
    item_id: str
    output_index: int
    name: str
    arguments: str


class ErrorEvent(_Event):
    """The last event of a stream that failed."""

    type: Literal["error"]
    code: ErrorCode
    message: str
    param: str | None
    error: ErrorDetail


StreamedEvent = (
    ResponseEvent
    | OutputItemEvent
    | ContentPartEvent
    | OutputTextDelta
    | OutputTextDone
    | SummaryPartEvent
    | SummaryTextDelta
    | SummaryTextDone
    | CallArgumentsDelta
    | CallArgumentsDone
    | ErrorEvent
)


class ListedItems(TypedDict):
    """A page of a list."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(TypedDict):
    """What is not kept any more."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


_ABOUT: Final = """\
A page is asked as by `/v1/chat/completions`. With `stream` the answer is `text/event-stream`, with OpenAI's events. A
stream that fails midway ends with an event `error`, without `response.completed` or `response.incomplete`. Responses
are kept for their API key and a time, unless `store` is false."""

_MORE: Final = {
    **{
        name: {"description": "Accepted, without effect."}
        for name in ("temperature", "top_p", "reasoning", "truncation", "user", "max_tool_calls", "service_tier")
    },
    "background": {"enum": [None, False], "description": "A page answers while its caller waits."},
    "conversation": {"type": "null", "description": "`previous_response_id` continues a response."},
    "prompt": {"type": "null", "description": "There are no templates of prompts here."},
}
_HELLO: Final = {"model": "demo-small", "input": "What is a quay?"}
_WEATHER: Final = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_ID: Final = Parameter("id", "The id of a response that is kept.")
_NOT_KEPT: Final = frozenset({ErrorCode.RESPONSE_NOT_FOUND, ErrorCode.PREVIOUS_RESPONSE_NOT_FOUND})

OPERATIONS: Final = (
    Operation(
        "post",
        RESPONSES.path,
        "createResponse",
        "chat",
        "Ask a page in OpenAI's Responses dialect",
        {JSON: Response, EVENTS: StreamedEvent},
        description=_ABOUT,
        body=ResponsesBody,
        more=_MORE,
        hidden=(EARLIER_FIELD,),
        examples={
            "plain": _HELLO,
            "streamed": {**_HELLO, "stream": True},
            "tools": {**_HELLO, "tools": [_WEATHER]},
            "streamed_tools": {**_HELLO, "tools": [_WEATHER], "stream": True},
        },
        codes=ASKS_A_PAGE | _NOT_KEPT,
    ),
    Operation(
        "get",
        f"{RESPONSES.path}/{{id}}",
        "getResponse",
        "responses",
        "A response that is kept",
        {JSON: Response},
        codes=frozenset({ErrorCode.RESPONSE_NOT_FOUND, ErrorCode.UNSUPPORTED_PARAMETER}),
        parameters=(_ID,),
    ),
    Operation(
        "get",
        f"{RESPONSES.path}/{{id}}/input_items",
        "listInputItems",
        "responses",
        "What a response answers, with the conversation before it",
        {JSON: ListedItems},
        codes=_NOT_KEPT,
        parameters=(
            _ID,
            Parameter("limit", "Most items.", {"type": "integer", "minimum": 1, "maximum": 100}, "query"),
            Parameter("order", "`desc` without it.", {"enum": ["asc", "desc"]}, "query"),
            Parameter("after", "The id of the item before the first.", where="query"),
        ),
    ),
    Operation(
        "delete",
        f"{RESPONSES.path}/{{id}}",
        "deleteResponse",
        "responses",
        "Forget a response",
        {JSON: Deleted},
        codes=frozenset({ErrorCode.RESPONSE_NOT_FOUND}),
        parameters=(_ID,),
    ),
)

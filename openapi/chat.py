"""OpenAI's chat completions and legacy completions.

Wire formats: https://platform.openai.com/docs/api-reference/chat and .../completions
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NotRequired

from typing_extensions import TypedDict

from api_utils.dialects import completions
from api_utils.dialects.chat import ONLY_HARMLESS, ChatRequest
from contract.dialects.chat import CHAT
from contract.dialects.completions import COMPLETIONS
from openapi.answers import Error
from openapi.operation import ASKS_A_PAGE, EVENTS, JSON, Operation


class CalledFunction(TypedDict):
    """What is called. `arguments` is the text of a JSON object that fits the tool's schema."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """A call of a tool that the request declared."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ToolCallDelta(ToolCall):
    """A call of a tool, in one piece; `index` counts the calls of an answer."""

    index: int


class CompletionTokensDetails(TypedDict):
    """Of the completion's tokens."""

    reasoning_tokens: int


class Usage(TypedDict):
    """An estimate: a token for each 4 bytes of UTF-8 begun. The header `x-usage` says so."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: NotRequired[CompletionTokensDetails]


FinishReason = Literal["stop", "length", "tool_calls"]


class AssistantMessage(TypedDict):
    """The answer."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]


class Choice(TypedDict):
    """The only one."""

    index: Literal[0]
    message: AssistantMessage
    logprobs: None
    finish_reason: FinishReason


class ChatCompletion(TypedDict):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: NotRequired[Usage]


class Delta(TypedDict):
    """What this event adds to the answer."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    refusal: NotRequired[None]
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCallDelta]]


class ChunkChoice(TypedDict):
    """The only one."""

    index: Literal[0]
    delta: Delta
    logprobs: None
    finish_reason: FinishReason | None


class ChatCompletionChunk(TypedDict):
    """The data of one event of a streamed answer."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: NotRequired[Usage | None]


class TextChoice(TypedDict):
    """The only one."""

    index: Literal[0]
    text: str
    logprobs: None
    finish_reason: FinishReason | None


class TextCompletion(TypedDict):
    """A whole answer, or the data of one event of a streamed one."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: NotRequired[Usage | None]


class CompletionBody(completions.CompletionBody):
    """What a page can be asked by legacy completions."""

    prompt: str | list[str]


_ABOUT_CHAT: Final = """\
A page takes one text, and every request starts a fresh conversation on it: the messages are written out as one
prompt. docs/api.md says how, and what becomes of each parameter.

With `stream` the answer is `text/event-stream`: each event is `data:` with a `ChatCompletionChunk`, the last one is
`data: [DONE]`. Lines that begin with `:` are sent while a page has not begun its answer. A stream that fails midway
ends with `data: {"error": {...}}` and without `[DONE]`.

A whole answer that takes more than 10 seconds after its prompt was submitted begins with line breaks, which JSON
parsers skip. What fails after the first of them has status 200, and the body ends with a line
`data: {"error": {...}}`, which is not JSON on purpose."""

_ABOUT_COMPLETIONS: Final = """\
The prompt is given to a page as the only message of a user: one text, for each `prompt` a request of its own. Streams,
answers that take long, and what fails late are as in `/v1/chat/completions`."""

_HELLO: Final = [{"role": "user", "content": "What is a quay?"}]
_WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def _harmless(parameters: Mapping[str, tuple[tuple[Any, ...], str]]) -> dict[str, Any]:
    return {name: {"enum": list(values), "description": why} for name, (values, why) in parameters.items()}


_SAMPLING: Final = {
    name: {"description": "Accepted, without effect."}
    for name in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "user")
}
_OF_CHAT: Final = {
    **_SAMPLING,
    "metadata": {"description": "Accepted, without effect."},
    **_harmless(ONLY_HARMLESS),
    **{
        name: {"enum": [None, False], "description": "A page has no such feature."}
        for name in ("audio", "logprobs", "top_logprobs", "prediction")
    },
    "functions": {"enum": [None, []], "description": "It is the old form of `tools`."},
}

OPERATIONS: Final = (
    Operation(
        "post",
        CHAT.path,
        "createChatCompletion",
        "chat",
        "Ask a page",
        {JSON: ChatCompletion, EVENTS: ChatCompletionChunk | Error},
        description=_ABOUT_CHAT,
        body=ChatRequest,
        more=_OF_CHAT,
        examples={
            "plain": {"model": "demo-small", "messages": _HELLO},
            "streamed": {"model": "demo-small", "messages": _HELLO, "stream": True},
            "tools": {"model": "demo-small", "messages": _HELLO, "tools": [_WEATHER]},
        },
        codes=ASKS_A_PAGE,
    ),
    Operation(
        "post",
        COMPLETIONS.path,
        "createCompletion",
        "chat",
        "Ask a page by legacy completions",
        {JSON: TextCompletion, EVENTS: TextCompletion | Error},
        description=_ABOUT_COMPLETIONS,
        body=CompletionBody,
        more={**_SAMPLING, **_harmless(completions.ONLY_HARMLESS)},
        examples={"plain": {"model": "demo-small", "prompt": "What is a quay?"}},
        codes=ASKS_A_PAGE,
    ),
)

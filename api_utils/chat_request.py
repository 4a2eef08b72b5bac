"""A chat completion request: which of OpenAI's parameters a chat page can honour, and which it cannot.

Wire format: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError
from typing_extensions import TypeAliasType

from api_utils.answer_cut import AnswerLimits
from contract.api_error import bad_request, unsupported
from contract.chat_body import check_amount

MOST_STOP_SEQUENCES: Final = 16
"""OpenAI takes four, but clients that take other servers too send more."""

_ONLY_HARMLESS: Final[Mapping[str, tuple[tuple[Any, ...], str]]] = {
    "n": ((None, 1), "a page gives one answer"),
    "tool_choice": ((None, "none", "auto"), "a web chat page calls no tools"),
    "function_call": ((None, "none", "auto"), "a web chat page calls no functions"),
    "modalities": ((None, [], ["text"]), "a page answers in text"),
    "response_format": ((None, {"type": "text"}), "a page cannot be held to a format; ask for it in the prompt"),
}
"""Parameters with the values that ask for nothing special, and why another value is refused."""


# What pydantic names the member of a union by.
_UNION_MEMBERS: Final = ("str", "list[Part]", "list[str]")


class Part(BaseModel):
    """One part of a message's content."""

    model_config = ConfigDict(extra="allow")
    type: str
    text: str | None = None


# Both lists stop at the first error: an error object for each of a million bad items costs gigabytes.
# An alias of its own, because FailFast cannot be hashed, which a member of a union must be.
_Parts = TypeAliasType("_Parts", Annotated[list[Part], FailFast()])


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | _Parts | None = None
    name: str | None = None


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
    stop: str | Annotated[list[str], Field(max_length=MOST_STOP_SEQUENCES)] | None = None
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    max_completion_tokens: Annotated[int, Field(gt=0)] | None = None

    @property
    def limits(self) -> AnswerLimits:
        """Return where the answer ends at the latest. `max_tokens` is the old name of `max_completion_tokens`."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return AnswerLimits(tuple(filter(None, stop)), self.max_completion_tokens or self.max_tokens)

    @property
    def wants_usage_in_stream(self) -> bool:
        """Return whether a stream is to end with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

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
        # pydantic names the member of a union that did not fit, which is no part of the request.
        steps = [str(step) for step in first["loc"] if step not in _UNION_MEMBERS]
        where = ".".join(steps) or "body"
        raise bad_request(f"{where}: {first['msg']}", param=where) from None
    refuse_unsupported(request)
    return request


def refuse_unsupported(request: ChatRequest) -> None:
    """Raise ApiError (400) for what would change the answer's form and a page cannot give."""
    given = request.parameters
    for name in ("tools", "functions", "audio", "logprobs", "top_logprobs", "prediction"):
        if given.get(name):
            raise unsupported(name, "a web chat page has no such feature")
    for name, (harmless, why) in _ONLY_HARMLESS.items():
        if given.get(name) not in harmless:
            raise unsupported(name, why)
    for index, message in enumerate(request.messages):
        if message.role in ("tool", "function") or (message.model_extra or {}).get("tool_calls"):
            raise unsupported(f"messages[{index}]", "a web chat page takes part in no tool calls")
        taken = ("text", "refusal", "image_url") if message.role == "user" else ("text", "refusal")
        for part in message.content if isinstance(message.content, list) else []:
            if part.type not in taken:
                what = "text and images go" if message.role == "user" else "only text goes"
                raise unsupported(f"messages[{index}].content", f"{what} into the page here, not {part.type[:40]!r}")

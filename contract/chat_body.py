"""What both programs refuse of a request's body before they look closer, and the little that routing reads of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec

from contract.api_error import ApiError, bad_request

MOST_MESSAGES: Final = 4096
"""Of one request. A conversation of that length fits no page; to look into each of millions takes gigabytes."""
MOST_PARTS: Final = 4096
"""Of all messages of one request together, calls of tools included."""
_LISTS: Final = ("content", "tool_calls")
"""What a message has its parts in."""

_NULL: Final = msgspec.Raw(b"null")


def longest_s(idle_s: float) -> float:
    """Return how many seconds a body that always moves gets, where a pause gets idle_s: 10 MiB at 35 kB a second."""
    return 5 * idle_s


def stream_of(value: Any) -> bool:
    """Return what the value of `stream` asks for; 1 and 0 stand for true and false. Raises ApiError (400)."""
    if value is None or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise bad_request("stream must be true or false.", param="stream")


def check_amount(messages: Sequence[Any], name: str = "messages") -> None:
    """Raise ApiError (400) for more messages, or more parts in them, than any page could be given."""
    _check_counts(name, messages=len(messages))
    given = [message.get(key) for message in messages if isinstance(message, dict) for key in _LISTS]
    _check_counts(name, parts=sum(len(parts) for parts in given if isinstance(parts, list)))


def _check_counts(name: str, *, messages: int = 0, parts: int = 0) -> None:
    if messages > MOST_MESSAGES:
        raise bad_request(f"{name} has more than {MOST_MESSAGES} entries.", param=name)
    if parts > MOST_PARTS:
        raise bad_request(f"{name} has more than {MOST_PARTS} parts together.", param=name)


class _Tally:
    """What has been counted of the body that is read now: one at a time, because reading it has no await."""

    name = ""
    messages = 0
    parts = 0


# msgspec tells of the limit of a list only when it has made all of it; this is called for each item.
class _Message(msgspec.Struct, gc=False):
    content: msgspec.Raw = _NULL
    tool_calls: msgspec.Raw = _NULL

    def __post_init__(self) -> None:
        _Tally.messages += 1
        _check_counts(_Tally.name, messages=_Tally.messages)


class _Part(msgspec.Struct, gc=False):
    def __post_init__(self) -> None:
        _Tally.parts += 1
        _check_counts(_Tally.name, parts=_Tally.parts)


_VALUE: Final = msgspec.json.Decoder()
_PARTS: Final = msgspec.json.Decoder(list[_Part])


class BodyHead(NamedTuple):
    """What routing needs of a request's body."""

    model: str
    stream: bool


def read_head(raw: bytes, name: str = "messages", *, may_be_text: bool = False) -> BodyHead:
    """Read what routing needs, and hold all the rest against JSON's grammar; 10 MB of anything take some 0.1 s.

    `name` is the parameter with the conversation; with `may_be_text` it may be one text, or hold texts.
    Raises ApiError (400), which names the parameter at fault.
    """
    _Tally.name, _Tally.messages, _Tally.parts = name, 0, 0
    within = ""
    try:
        raw.decode()  # of what msgspec skips it does not check the encoding
        body = _decoder(name, may_be_text=may_be_text).decode(raw)
        messages = getattr(body, name)
        items = messages if isinstance(messages, list) else []
        _check_counts(name, messages=len(items))  # texts among them have not been counted
        for index, message in enumerate(items):
            for key in _LISTS if isinstance(message, _Message) else ():
                parts = getattr(message, key)
                if _begins(parts, b"["):
                    within = f"{name}[{index}].{key}"
                    _PARTS.decode(parts)
        # Only texts, and only short words: anything else, built, is what takes long.
        model = _VALUE.decode(body.model) if _begins(body.model, b'"') else None
        within = "stream"  # of which some numbers are out of range
        stream = _VALUE.decode(body.stream) if len(memoryview(body.stream)) <= len("false") else ""
    except msgspec.ValidationError as error:
        raise _misfit(error, within, name, may_be_text=may_be_text) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad_request("The body is not valid JSON in UTF-8.") from None
    except RecursionError:
        raise bad_request("The body's JSON is nested too deeply.") from None
    if not messages:
        raise _no_messages(name, may_be_text=may_be_text)
    if not model:
        raise bad_request("model must name a model; GET /v1/models lists them.", param="model")
    return BodyHead(model, stream_of(stream))


def _begins(value: msgspec.Raw, start: bytes) -> bool:
    return bytes(memoryview(value)[:1]) == start


def _no_messages(name: str, *, may_be_text: bool) -> ApiError:
    text = "a text, or " if may_be_text else ""
    return bad_request(f"{name} must be {text}a list with at least one message.", param=name)


def _misfit(error: msgspec.ValidationError, within: str, name: str, *, may_be_text: bool) -> ApiError:
    """Return the error for a value of another type than expected. `within` is where the part is that was read."""
    # For example: Expected `object`, got `int` - at `$.messages[1]`
    what, _, path = str(error).partition(" - at `$")
    where = (within + path.removesuffix("`")).removeprefix(".")
    if not where:
        return bad_request(f"The body must be a JSON object with model and {name}.")
    if where == name:
        return _no_messages(name, may_be_text=may_be_text)
    return bad_request(f"{where}: {what}.", param=where)


@cache
def _decoder(name: str, *, may_be_text: bool) -> msgspec.json.Decoder[Any]:
    kind: Any = str | list[_Message | str] | None if may_be_text else list[_Message] | None
    fields = [("model", msgspec.Raw, _NULL), ("stream", msgspec.Raw, _NULL), (name, kind, None)]
    return msgspec.json.Decoder(msgspec.defstruct("Body", fields))

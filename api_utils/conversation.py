"""A conversation as every dialect hands it on: messages in OpenAI's form, and what declares a function.

Wire format: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, PrivateAttr
from typing_extensions import TypeAliasType

MOST_TOOLS: Final = 512
"""Of one request; their declarations must find room in a prompt anyway."""

MOST_STOP_SEQUENCES: Final = 16
"""OpenAI takes four, but clients that take other servers too send more."""


class Part(BaseModel):
    """One part of a message's content."""

    model_config = ConfigDict(extra="allow")
    type: str
    text: str | None = None
    refusal: str | None = None
    _place: str | None = PrivateAttr(default=None)

    @classmethod
    def image(cls, url: str, *, place: str) -> Part:
        """Return an image that came in another dialect, where it stood in the `place` that errors are to name."""
        part = cls.model_validate({"type": "image_url", "image_url": url})
        part._place = place  # noqa: SLF001 - it is this class's own
        return part

    @property
    def place(self) -> str | None:
        """Return what errors name a converted part by; None for one that stands where the caller put it."""
        return self._place


# Both lists stop at the first error: an error object for each of a million bad items costs gigabytes.
# An alias of its own, because FailFast cannot be hashed, which a member of a union must be.
_Parts = TypeAliasType("_Parts", Annotated[list[Part], FailFast()])


class PastFunction(BaseModel):
    """What an earlier answer called. `arguments` is the text of a JSON object."""

    model_config = ConfigDict(extra="allow")
    name: str
    arguments: str = "{}"


class PastCall(BaseModel):
    """A call in an earlier answer."""

    model_config = ConfigDict(extra="allow")
    id: str | None = None
    function: PastFunction


_PastCalls = TypeAliasType("_PastCalls", Annotated[list[PastCall], FailFast()])


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(extra="allow")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | _Parts | None = None
    name: str | None = None
    refusal: str | None = None
    tool_call_id: str | None = None
    tool_calls: _PastCalls | None = None
    function_call: PastFunction | None = None

    @property
    def calls(self) -> list[PastCall]:
        """Return the calls that an assistant's message holds, those in OpenAI's old form too."""
        old = [PastCall(function=self.function_call)] if self.function_call else []
        return [*old, *(self.tool_calls or [])]


class Function(BaseModel):
    """What is called, and what with. `strict` needs no field: arguments are held against the schema always."""

    model_config = ConfigDict(extra="allow")
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None

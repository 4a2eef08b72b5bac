"""Why a profile is left out."""

from __future__ import annotations

from typing import Any, Final

from contract.errors import TabfleetError

_KINDS: Final = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


class BadProfile(TabfleetError):
    """A profile cannot be used; `reason` completes the sentence "a.json ..." and holds no secret and no path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def kind(value: Any) -> str:
    """What a JSON value is, in words, without the value."""
    return _KINDS.get(type(value), "something else")

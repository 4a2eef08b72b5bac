"""A JSON document that a site sends once in whole, and from then on as changes to it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from contract.errors import TabfleetError


class PatchMismatch(TabfleetError):
    """A change does not fit the document: something before it was missed."""


class Document:
    """The document as its changes have made it.

    A change is [operation, path, value]. A path is a list of keys and indexes or a JSON pointer (RFC 6901);
    operations are those of JSON Patch (RFC 6902) and `append`, which adds to the end of a text or a list.
    What a change puts into the document is a copy: later changes reach neither the event that brought it nor, where the
    site file's expression gives it as a literal, the answers to come.
    Gradio's `delete` is JSON Patch's `remove`: https://github.com/gradio-app/gradio, gradio/utils.py, `diff`.
    """

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def apply(self, changes: Any) -> None:
        """Make the changes, in order. Raises PatchMismatch; the changes before the one that does not fit stay."""
        try:
            for operation, path, *value in changes:
                if isinstance(path, str):
                    # RFC 6901, section 4: ~1 first, or ~01 would become a slash.
                    path = [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]  # noqa: PLW2901
                self._apply(operation, list(path), deepcopy(value[0]) if value else None)
        except (TypeError, ValueError, KeyError, IndexError):
            raise PatchMismatch("a change does not fit the document") from None

    def _apply(self, operation: str, keys: list[Any], value: Any) -> None:
        if not keys:
            self.value = _changed(operation, self.value, value)
            return
        holder = self.value
        for key in keys[:-1]:
            holder = holder[_index(holder, key)]
        key = _index(holder, keys[-1])
        if operation == "add" and isinstance(holder, list):
            holder.insert(key, value)
        elif operation in ("delete", "remove"):
            del holder[key]
        elif operation in ("add", "replace"):
            holder[key] = value
        else:
            holder[key] = _changed(operation, holder[key], value)


def _index(holder: Any, key: Any) -> Any:
    if not isinstance(holder, list):
        return key
    return len(holder) if key == "-" else int(key)


def _changed(operation: str, old: Any, value: Any) -> Any:
    if operation in ("add", "replace"):
        return value
    if operation == "append":
        return [*old, value] if isinstance(old, list) else old + value
    raise ValueError(operation)

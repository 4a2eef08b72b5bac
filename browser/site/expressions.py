"""What a JMESPath in a site file can find, told from its form alone: https://jmespath.org/specification.html"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import jmespath
import jmespath.exceptions
from jmespath.functions import Functions, signature

Node = Mapping[str, Any]

_LITERALS = {"true", "false", "null"}
_TRUE_OR_FALSE = ("comparator", "not_expression")
# Of these nodes only the first child sees what the whole expression sees; the others see what that one finds.
_CHAINS = (
    *("subexpression", "index_expression", "pipe"),
    *("projection", "value_projection", "filter_projection", "flatten"),
)


class _Functions(Functions):
    """Those of JMESPath, and what it has no way to say."""

    @signature({"types": ["array"]}, {"types": ["expref"]})
    def _func_after_last(self, array: list[Any], expref: Any) -> list[Any]:
        """Return the elements after the last one for which an expression finds something, or all."""
        held = [at for at, element in enumerate(array) if expref.visit(expref.expression, element)]
        return array[held[-1] + 1 :] if held else array


OPTIONS: Final = jmespath.Options(custom_functions=_Functions())
"""What an expression of a site file is to be searched with."""


def jmespath_expression(value: str) -> str:
    """Return an expression that compiles, and whose functions exist. Raises ValueError."""
    try:
        tree = jmespath.compile(value).parsed
    except jmespath.exceptions.JMESPathError as error:
        problem = str(error).splitlines()[0]
        raise ValueError(f"must be a JMESPath expression ({problem})") from None
    except RecursionError:
        raise ValueError("must be a JMESPath expression that is nested less deeply") from None
    for node in _all(tree):
        if node["type"] == "function_expression":
            _check_call(node["value"], len(node["children"]))
        if node["type"] in ("subexpression", "index_expression") and _gives_true_or_false(node["children"][0]):
            raise ValueError("looks for a part of true or false; put what ! stands before into parentheses")
    return value


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in node["children"]:
        if isinstance(child, Mapping):  # the bounds of a slice are numbers
            yield from _all(child)


def _check_call(name: str, given: int) -> None:
    table: Mapping[str, Mapping[str, Any]] = _Functions.FUNCTION_TABLE
    if name not in table:
        raise ValueError(f"there is no function {name} in JMESPath")
    signature = table[name]["signature"]
    is_open = bool(signature and signature[-1].get("variadic"))
    if given < len(signature) or (given > len(signature) and not is_open):
        raise ValueError(f"the function {name} takes {len(signature)} arguments{' or more' * is_open}, not {given}")


def problem_of(expression: str, *, sees: Collection[str] | None, key: str, finds: str) -> str | None:
    """Return what is wrong with an expression that compiles, or None.

    `sees` are the names in what it looks at, None if they are not known; `finds` says what the key is for: "text",
    "data" or "truth".
    """
    tree = jmespath.compile(expression).parsed
    looked_at = list(_names(tree))
    if sees is not None and "event" not in sees and "event" in looked_at:
        if _finds_nothing(tree):
            return "needs event, the name of an event: only those of kind = 'sse' have one"
        looked_at = [name for name in looked_at if name != "event"]  # another part of it may find something
    for name in looked_at:
        if name is not None and sees is not None and name not in sees:
            return _unknown(name, sees)
    if not looked_at:
        return "looks at nothing of what comes, and finds the same each time"
    if finds != "truth" and _gives_true_or_false(tree):
        wanted = "text" if finds == "text" else "a value"
        return f"finds only true or false, and {key} is for {wanted}: end it with && and what is to be found"
    return None


def _unknown(name: str, sees: Collection[str]) -> str:
    if name in _LITERALS:
        return f"takes {name} for a name; the value is written in backticks: `{name}`"
    known = " or ".join(sorted(sees))
    return f"looks at {name}, which an event does not have: begin with {known}; text stands in single quotes"


def _names(node: Node) -> Iterator[str | None]:
    """Yield what an expression looks at in what it is given: the names of its parts, None for it as a whole."""
    kind, children = node["type"], node["children"]
    if kind == "field":
        yield node["value"]
    elif kind in ("identity", "current"):
        yield None
    elif kind in _CHAINS:
        first, *rest = children
        whole = first["type"] in ("identity", "current")
        if not whole:
            yield from _names(first)
        elif kind in ("subexpression", "pipe"):  # `@.data`: what follows sees the same again
            yield from _names(rest[0])
        else:
            yield None if kind == "value_projection" else "[]"
    elif kind != "expref":  # it sees the elements of a list
        for child in children:
            yield from _names(child)


def _finds_nothing(node: Node) -> bool:
    """Return whether it finds nothing, or false, wherever `event` is null."""
    kind, children = node["type"], node["children"]
    if kind == "field":
        return bool(node["value"] == "event")
    if kind == "comparator":
        literal = any(child["type"] == "literal" and child["value"] is not None for child in children)
        return bool(node["value"] == "eq" and literal and any(map(_finds_nothing, children)))
    if kind == "and_expression":
        return any(map(_finds_nothing, children))
    if kind == "or_expression":
        return all(map(_finds_nothing, children))
    return kind in ("subexpression", "index_expression") and _finds_nothing(children[0])


def _gives_true_or_false(node: Node) -> bool:
    kind, children = node["type"], node["children"]
    if kind == "literal":
        return isinstance(node["value"], bool)
    if kind == "and_expression":  # its last part, or the false one before it
        return _gives_true_or_false(children[1])
    if kind == "or_expression":
        return all(map(_gives_true_or_false, children))
    if kind == "function_expression":
        return node["value"] in ("contains", "starts_with", "ends_with")
    return kind in _TRUE_OR_FALSE

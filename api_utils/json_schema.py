"""JSON Schemas of callers: checked, and used to check what a page writes.

https://json-schema.org/draft/2020-12; the library is `jsonschema`. A caller's schema could make a check as slow as it
likes: by a `pattern`, on which Python's `re` backtracks, by a tree of `$ref`, by `uniqueItems`. So each has a limit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from api_utils.cpu_limit import CpuLimitExceeded, with_cpu_limit
from contract.api_error import bad_request

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_CHECK_LIMIT_S: Final = 0.3
_LONGEST: Final = 200
"""Characters of a schema's own words that an error repeats."""


def parse_json(text: str) -> Any:
    """Return the value of a page's JSON. Raises ValueError, also for NaN and Infinity, which only Python takes."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def check_schema(schema: Mapping[str, Any], where: str) -> None:
    """Raise ApiError (400) for a schema that is none; `where` is the parameter that holds it."""
    if problem := schema_problem(schema):
        raise bad_request(f"{where}: this is no JSON Schema: {problem}", param=where)


def schema_problem(schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the schema, or None."""
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415 - as in _validator

    validator = _validator(schema)
    try:
        with_cpu_limit(_CHECK_LIMIT_S, lambda: validator.check_schema(dict(schema)))
    except SchemaError as error:
        return error.message[:_LONGEST]
    except RecursionError:
        return "it is nested too deeply"
    except CpuLimitExceeded:
        return "it takes too long to check"
    return None


def value_problem(schema: Mapping[str, Any], value: Any) -> str | None:
    """Return where the value does not fit the schema, or None. None of the value's own words are repeated."""
    from referencing.exceptions import Unresolvable  # noqa: PLC0415 - as in _validator

    validator = _validator(schema)
    try:
        error = with_cpu_limit(_CHECK_LIMIT_S, lambda: next(iter(validator.iter_errors(value)), None))
    except Unresolvable:
        return "the schema refers to what it does not hold"
    except RecursionError:
        return "it is nested too deeply"
    except CpuLimitExceeded:
        return "it takes too long to check"
    if error is None:
        return None
    return f"it breaks the schema's {'.'.join(str(step) for step in error.absolute_schema_path)[:_LONGEST]}"


def _validator(schema: Mapping[str, Any]) -> Validator:
    # Imported by those who use it: most children never see a schema, and it takes a tenth of a second.
    from jsonschema import Draft202012Validator  # noqa: PLC0415
    from jsonschema.validators import validator_for  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415

    # An empty registry: by default what a `$ref` names would be fetched from the network.
    return validator_for(schema, default=Draft202012Validator)(dict(schema), registry=Registry())

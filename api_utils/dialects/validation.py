"""What pydantic finds wrong with a request, in the caller's own words."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import ValidationError

from contract.api_error import ApiError, bad_request


def place_of(loc: Collection[int | str], *, members: Collection[str] = ("str",)) -> str:
    """Return a place as `messages[0].content[1].source`, from what pydantic calls the steps to it.

    Pydantic names members of unions as well, which are no part of the request: those in `members`, and what is no
    identifier.
    """
    steps = [step for step in loc if isinstance(step, int) or (step.isidentifier() and step not in members)]
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def refusal_of(error: ValidationError) -> ApiError:
    """Return the error (400) that names the parameter at fault.

    Members of unions have a tag in angle brackets, or are named `list[...]` or `str`.
    """
    # Of a union every member says why it does not fit; the one that was meant came furthest.
    worst = max(error.errors(include_url=False, include_input=False), key=lambda found: len(found["loc"]))
    where = place_of(worst["loc"]) or "body"
    what = "Input should be an object" if worst["type"] == "model_type" else worst["msg"]
    return bad_request(f"{where}: {what}", param=where)

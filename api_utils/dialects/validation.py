"""What pydantic finds wrong with a request, in the caller's own words."""

from __future__ import annotations

from pydantic import ValidationError

from contract.api_error import ApiError, bad_request


def refusal_of(error: ValidationError) -> ApiError:
    """Return the error (400) that names the parameter at fault, as `messages[0].content[1].source`.

    Pydantic names members of unions as well, which are no part of the request: by a tag in angle brackets, as
    `list[...]`, or as `str`.
    """
    # Of a union every member says why it does not fit; the one that was meant came furthest.
    worst = max(error.errors(include_url=False, include_input=False), key=lambda found: len(found["loc"]))
    steps = [step for step in worst["loc"] if isinstance(step, int) or (step.isidentifier() and step != "str")]
    names = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    where = "".join(names).removeprefix(".") or "body"
    what = "Input should be an object" if worst["type"] == "model_type" else worst["msg"]
    return bad_request(f"{where}: {what}", param=where)

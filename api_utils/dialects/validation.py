"""What pydantic finds wrong with a request, in the caller's own words."""

from __future__ import annotations

from pydantic import ValidationError

from contract.api_error import ApiError, bad_request


def refusal_of(error: ValidationError) -> ApiError:
    """Return the error (400) that names the parameter at fault, as `messages.0.content.1.source`.

    Members of unions have tags in angle brackets, or are a text or a list: pydantic names them as well, and they are no
    part of the request.
    """
    # Of a union every member says why it does not fit; the one that was meant came furthest.
    worst = max(error.errors(include_url=False, include_input=False), key=lambda found: len(found["loc"]))
    steps = [str(step) for step in worst["loc"]]
    where = ".".join(step for step in steps if step != "str" and not step.startswith(("list[", "<"))) or "body"
    what = "Input should be an object" if worst["type"] == "model_type" else worst["msg"]
    return bad_request(f"{where}: {what}", param=where)

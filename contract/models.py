"""Models as the API shows them. Wire format: https://platform.openai.com/docs/api-reference/models/object"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from contract.api_error import ApiError, ErrorCode


def model_card(name: str, owner: str) -> dict[str, Any]:
    """Return a model in OpenAI's form; a page tells no date of creation, so it is 0."""
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}


def model_list(owners: Mapping[str, str]) -> dict[str, Any]:
    """Return models in OpenAI's list form, given their owners by their names."""
    return {"object": "list", "data": [model_card(name, owner) for name, owner in owners.items()]}


def model_not_found(name: str, offered: Iterable[str]) -> ApiError:
    """Return the error (404) for a model that is not offered; the message names those that are."""
    message = f"The model {name[:100]!r} does not exist here; there are: {', '.join(offered)}."
    return ApiError(ErrorCode.MODEL_NOT_FOUND, message, param="model")

"""The document as the running coordinator serves it, made to lead random requests to where they are looked into."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator, Sequence
from typing import Any

from tests.support import png

READY, MOVED = "ready", "moved"
"""Children: requests and pictures go to the first, which nothing stops; an operator's actions to the second."""

_PICTURE = f"data:image/png;base64,{base64.b64encode(png.make(4, 3)).decode()}"
_PARTS = {
    "anyOf": [
        {
            "type": "object",
            "required": ["type", "text"],
            "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
        },
        {
            "type": "object",
            "required": ["type", "image_url"],
            "properties": {
                "type": {"const": "image_url"},
                "image_url": {"anyOf": [{"const": _PICTURE}, {"const": {"url": _PICTURE}}, {"type": "string"}]},
            },
        },
    ]
}


def target(document: dict[str, Any], *, models: Sequence[str], responses: Sequence[str]) -> dict[str, Any]:
    """Return the document with names that there are, and with answers that hold nothing but what it names.

    `models` and `responses` are ids; the last response is the one to delete.
    """
    document = copy.deepcopy(document)
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        if "properties" in schema and not schema.get("additionalProperties"):
            schema["additionalProperties"] = False
    schemas["Part"] = _PARTS
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for media_type in operation.get("requestBody", {"content": {}})["content"].values():
                properties = schemas[media_type["schema"]["$ref"].rpartition("/")[2]]["properties"]
                if "model" in properties:
                    properties["model"] = {"enum": list(models)}
                if "profile" in properties:
                    properties["profile"] = {"enum": [READY, "new"]}
                if "previous_response_id" in properties:
                    properties["previous_response_id"] = {"enum": [None, responses[0]]}
            for response in operation["responses"].values():
                _type_events(response.get("content", {}))
            names = models if path.startswith("/v1/models") else _names(path, method, responses)
            operation["parameters"] = list(_parameters(operation, names, keyed=path == "/v1/completions"))
    return document


def _parameters(operation: dict[str, Any], names: Sequence[str], *, keyed: bool) -> Iterator[dict[str, Any]]:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            yield {**parameter, "schema": {"enum": [*names, "none"]}}
        # A key that comes with ever new bodies is refused before anything else is looked into.
        elif parameter["in"] == "query" or keyed:
            yield parameter


def _names(path: str, method: str, responses: Sequence[str]) -> Sequence[str]:
    if path.startswith("/v1/responses"):
        return responses[-1:] if method == "delete" else responses[:-1]
    return [MOVED if path.endswith(("/restart", "/reset", "/drain")) else READY]


def _type_events(content: dict[str, Any]) -> None:
    """Say in OpenAPI 3.2's words what an event is: before, `schema` is the stream's to some, an event's to others."""
    for media_type in content.keys() & {"text/event-stream"}:
        parsed = {"contentMediaType": "application/json", "contentSchema": content[media_type]["schema"]}
        event = {
            "type": "object",
            "properties": {"data": {"anyOf": [{"const": "[DONE]"}, parsed]}},
            "required": ["data"],
        }
        content[media_type] = {"itemSchema": event}

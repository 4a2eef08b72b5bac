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


def target(document: dict[str, Any], models: Sequence[str]) -> dict[str, Any]:
    """Return the document with names that there are, and with answers that hold nothing but what it names."""
    document = copy.deepcopy(document)
    for schema in _objects(document["components"]["schemas"]):
        if not schema.get("additionalProperties"):
            schema["additionalProperties"] = False
    document["components"]["schemas"]["Part"] = _PARTS
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for media_type in operation.get("requestBody", {"content": {}})["content"].values():
                taken = media_type["schema"]["$ref"].rpartition("/")[2]
                document["components"]["schemas"][taken]["properties"]["model"] = {"enum": list(models)}
            for response in operation["responses"].values():
                _type_events(response.get("content", {}))
            for parameter in operation.get("parameters", ()):
                known = [*models, "none"] if parameter["name"] == "id" else [_child(path), "none"]
                parameter["schema"]["enum"] = known
    return document


def _type_events(content: dict[str, Any]) -> None:
    """Say in OpenAPI 3.2's words what an event is: before, `schema` is the stream's to some, an event's to others."""
    for media_type in content.keys() & {"text/event-stream"}:
        data = {"anyOf": [content[media_type]["schema"], {"$ref": "#/components/schemas/Error"}]}
        parsed = {"contentMediaType": "application/json", "contentSchema": data}
        event = {
            "type": "object",
            "properties": {"data": {"anyOf": [{"const": "[DONE]"}, parsed]}},
            "required": ["data"],
        }
        content[media_type] = {"itemSchema": event}


def _child(path: str) -> str:
    return MOVED if path.endswith(("/restart", "/reset", "/drain")) else READY


def _objects(schemas: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (schema for schema in schemas.values() if "properties" in schema)

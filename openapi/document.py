"""The document, put together of the operations, the schemas of requests and answers, and the errors' meanings.

Format: https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from api_utils.usage import ESTIMATED, USAGE_HEADER
from contract.api_error import SHOULD_RETRY_HEADER, ErrorCode
from contract.child_api import REQUEST_ID_HEADER
from coordinator.proxy.idempotency import REPLAYED_HEADER
from openapi.operation import IDEMPOTENCY_KEY, Operation
from openapi.operations import OPERATIONS
from openapi.webhooks import BODY, TAG, webhooks

_ROOT: Final = Path(__file__).resolve().parent.parent
FILE: Final = _ROOT / "coordinator" / "openapi.json"
"""Where the coordinator serves it from; the image holds that folder, and not this one."""

_SCHEMAS: Final = "#/components/schemas/"
_MEANING: Final = re.compile(r"^\| `(\w+)` \| \d{3} \| (.+) \|$", flags=re.MULTILINE)

_INFO: Final = {
    "title": "Tabfleet",
    "version": "1",
    "description": "An OpenAI-compatible API in front of web chat pages. docs/api.md says what a page can honour.",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
_TAGS: Final = {
    "chat": "Asking a page",
    "responses": "Responses that are kept",
    "models": "The models that the site file names",
    "health": "For orchestrators; without a key",
    "metrics": "For operators, with any key",
    "admin": "For operators, with a key that has the role",
    TAG: "What operators are told at `ALERT_URL`",
}
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer KEY`"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key"},
}
_HEADERS: Final = {
    REQUEST_ID_HEADER: ("The id that the logs name, too.", True),
    "retry-after": ("In how many seconds a repeat may do.", False),
    SHOULD_RETRY_HEADER: ("`false`: the prompt may have been submitted, and a repeat may submit it again.", False),
    "www-authenticate": ("`Bearer`", False),
    REPLAYED_HEADER: ("`true`: the answer of an earlier request with this `Idempotency-Key`.", False),
    USAGE_HEADER: (f"`{ESTIMATED}`: what `usage` is.", False),
}
_ON_ERRORS: Final = (REQUEST_ID_HEADER, "retry-after", SHOULD_RETRY_HEADER)


class _Schemas(GenerateJsonSchema):
    """Pydantic's schemas, with the names of aliases that are private to their module as others read them."""

    def normalize_name(self, name: str) -> str:
        """Return a component's name (GenerateJsonSchema), with the module's before it where two modules have one."""
        *modules, last = name.split(".")
        module = modules[-1].title() if modules else ""
        return super().normalize_name(f"{module}{last.lstrip('_')}").replace("_", "")

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """Return a schema with `anyOf` (GenerateJsonSchema): what fits its tag's type may fit one for all others."""
        shown = super().tagged_union_schema(schema)
        return {"anyOf" if key == "oneOf" else key: value for key, value in shown.items()}

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Return False: a field's title says its name again (GenerateJsonSchema)."""
        return False


def text() -> str:
    """Return the document as it stands in its file."""
    return json.dumps(document(), indent=1) + "\n"


def document(operations: Iterable[Operation] = OPERATIONS) -> dict[str, Any]:
    """Return the OpenAPI document of these operations."""
    operations = tuple(operations)
    refs, schemas = _schemas(operations)
    meanings = _meanings()
    paths: dict[str, Any] = {}
    for operation in operations:
        shown = _operation(operation, refs, meanings)
        methods = paths.setdefault(operation.path, {})
        methods[operation.method] = shown
        if operation.head:
            methods["head"] = _without_bodies(shown)
    return {
        "openapi": "3.1.1",
        "info": _INFO,
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": what} for name, what in _TAGS.items()],
        "paths": paths,
        "webhooks": webhooks(refs[BODY]),
        "components": {
            "schemas": schemas,
            "securitySchemes": _SECURITY,
            "headers": {
                name: {"description": what, "required": required, "schema": {"type": "string"}}
                for name, (what, required) in _HEADERS.items()
            },
        },
    }


def _schemas(operations: tuple[Operation, ...]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """Return for each type the schema that refers to it, and all components."""
    taken = dict.fromkeys(operation.body for operation in operations if operation.body)
    given = dict.fromkeys([*(kind for operation in operations for kind in _answered(operation)), BODY])
    inputs: list[tuple[Any, JsonSchemaMode, TypeAdapter[Any]]] = [
        *((kind, "validation", TypeAdapter(kind)) for kind in taken),
        *((kind, "serialization", TypeAdapter(kind)) for kind in given),
    ]
    named, whole = TypeAdapter.json_schemas(
        [(str(number), mode, adapter) for number, (_, mode, adapter) in enumerate(inputs)],
        ref_template=f"{_SCHEMAS}{{model}}",
        schema_generator=_Schemas,
    )
    refs = {kind: named[str(number), mode] for number, (kind, mode, _) in enumerate(inputs)}
    schemas = whole["$defs"]
    for operation in operations:
        if operation.body:
            body = schemas[refs[operation.body]["$ref"].removeprefix(_SCHEMAS)]
            others = "refused" if body.get("additionalProperties") is False else "accepted, and have no effect"
            body["description"] = f"What `{operation.path}` takes. Other parameters are {others}."
            body["properties"] = {
                name: schema
                for name, schema in {**body["properties"], **operation.more}.items()
                if name not in operation.hidden
            }
    return refs, schemas


def _answered(operation: Operation) -> Iterator[Any]:
    yield from operation.content.values()
    yield operation.error


def _operation(operation: Operation, refs: dict[Any, Any], meanings: dict[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = {"operationId": operation.id, "tags": [operation.tag], "summary": operation.summary}
    if operation.description:
        shown["description"] = operation.description
    if operation.deprecated:
        shown["deprecated"] = True
    parameters = (*operation.parameters, *((IDEMPOTENCY_KEY,) if operation.asks_a_page else ()))
    if parameters:
        shown["parameters"] = [
            {
                "name": one.name,
                "in": one.where,
                "required": one.where == "path",
                "description": one.description,
                "schema": one.schema,
            }
            for one in parameters
        ]
    if operation.body:
        examples = {name: {"value": value} for name, value in operation.examples.items()}
        content = {"application/json": {"schema": refs[operation.body], "examples": examples}}
        shown["requestBody"] = {"required": True, "content": content}
    roles = [operation.key] if operation.key in ("view", "operate") else []
    shown["security"] = [] if operation.key == "none" else [{name: roles} for name in _SECURITY]
    shown["responses"] = {
        **{str(status): _answer(operation, refs) for status in (operation.status, *operation.also)},
    }
    for status, codes in operation.errors.items():
        error = _error(status, codes, refs[operation.error], meanings)
        shown["responses"][str(status)] = _either(shown["responses"].get(str(status)), error)
    return shown


def _answer(operation: Operation, refs: dict[Any, Any]) -> dict[str, Any]:
    content = {media_type: {"schema": refs[kind]} for media_type, kind in operation.content.items()}
    names = [REQUEST_ID_HEADER]
    names += [USAGE_HEADER] if operation.takes_a_prompt else []
    names += [REPLAYED_HEADER] if operation.asks_a_page else []
    return {"description": operation.summary, "headers": _headers(names), "content": content}


def _error(status: int, codes: list[ErrorCode], schema: dict[str, Any], meanings: dict[str, str]) -> dict[str, Any]:
    """Return the response for a status, whose schema admits these codes alone."""
    said = "\n".join(f"- `{code}`: {meanings[code]}" for code in codes)
    of_these = {"properties": {"error": {"properties": {"code": {"enum": [str(code) for code in codes]}}}}}
    names = (*_ON_ERRORS, "www-authenticate") if status == 401 else _ON_ERRORS
    return {
        "description": f"{HTTPStatus(status).phrase}\n\n{said}",
        "headers": _headers(names),
        "content": {"application/json": {"schema": {"allOf": [schema, of_these]}}},
    }


def _either(answer: dict[str, Any] | None, error: dict[str, Any]) -> dict[str, Any]:
    """Return the response of a status that both an answer and errors have."""
    if answer is None:
        return error
    both = [one["content"]["application/json"]["schema"] for one in (answer, error)]
    return {**error, "content": {"application/json": {"schema": {"anyOf": both}}}}


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _without_bodies(shown: dict[str, Any]) -> dict[str, Any]:
    """Return the operation for HEAD."""
    responses = {
        status: {key: value for key, value in response.items() if key != "content"}
        for status, response in shown["responses"].items()
    }
    return {**shown, "operationId": f"{shown['operationId']}Head", "responses": responses}


def _meanings() -> dict[str, str]:
    """Return what docs/api.md says of each code: the one place where that stands."""
    page = (_ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    return dict(_MEANING.findall(page.partition("\n## Errors\n")[2]))

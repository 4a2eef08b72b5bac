"""The OpenAPI document is current and valid, and names all routes and errors; `tests/api_fuzz` shows it true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate

from contract.api_error import ErrorCode
from coordinator.alerts.alert import AlertKind
from openapi.document import FILE, document, text
from openapi.operation import ASKS_A_PAGE, Operation
from openapi.operations import OPERATIONS
from openapi.webhooks import EXAMPLES

DOCS = Path(__file__).resolve().parent.parent / "docs"
API_PAGE = (DOCS / "api.md").read_text(encoding="utf-8")
LOGINS_PAGE = (DOCS / "logins.md").read_text(encoding="utf-8")
DOCUMENT = document()
CHAT = DOCUMENT["paths"]["/v1/chat/completions"]["post"]

# A child alone gives the first; no route that there is gives the others.
OF_NO_ROUTE = {
    ErrorCode.DUPLICATE_REQUEST_ID,
    ErrorCode.NOT_FOUND,
    ErrorCode.METHOD_NOT_ALLOWED,
    ErrorCode.HTTP_ERROR,
}


def test_the_file_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == text(), "run `.venv/bin/python -m openapi`"


def test_the_document_is_valid() -> None:
    validate(DOCUMENT)


def test_it_has_the_routes_of_the_documentation() -> None:
    table = API_PAGE.partition("\n## Routes\n")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(GET|POST|DELETE) (/[^`]*)`", table))
    assert listed == {(operation.method.upper(), operation.path) for operation in OPERATIONS}


def test_every_error_belongs_to_a_route() -> None:
    named = {code for operation in OPERATIONS for codes in operation.errors.values() for code in codes}
    assert named == set(ErrorCode) - OF_NO_ROUTE


def test_ids_are_unique() -> None:
    ids = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(set(ids)) == len(ids)


def test_there_is_an_example_of_each_kind_of_alert_and_the_guide_shows_the_same() -> None:
    content = DOCUMENT["webhooks"]["alert"]["post"]["requestBody"]["content"]["application/json"]
    shown = [example["value"] for example in content["examples"].values()]
    assert [body["type"] for body in shown] == list(AlertKind)
    schema = {**content["schema"], "components": DOCUMENT["components"]}
    known = DOCUMENT["components"]["schemas"]["AlertData"]["properties"]
    for body in shown:
        jsonschema.validate(body, schema)
        assert set(body["data"]) <= set(known)
    section = LOGINS_PAGE.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert [json.loads(line) for line in section.splitlines() if line.startswith("{")] == shown
    assert [json.loads(alert.body()) for alert in EXAMPLES.values()] == shown


def codes(operation: dict[str, Any], status: str) -> set[str]:
    _, of_these = operation["responses"][status]["content"]["application/json"]["schema"]["allOf"]
    return set(of_these["properties"]["error"]["properties"]["code"]["enum"])


def test_an_error_after_submission_has_a_status_that_nobody_repeats() -> None:
    assert {"quota", "login_expired", "cancelled", "shutdown"} <= codes(CHAT, "502")
    assert "quota" in codes(CHAT, "429")


@pytest.mark.parametrize(
    ("path", "method", "security"),
    [
        ("/live", "get", []),
        ("/ready", "head", []),
        ("/v1/chat/completions", "post", [{"bearer": []}, {"apiKey": []}]),
        ("/admin/children/{name}", "get", [{"bearer": ["view"]}, {"apiKey": ["view"]}]),
        ("/admin/reload", "post", [{"bearer": ["operate"]}, {"apiKey": ["operate"]}]),
    ],
)
def test_it_says_whose_key_a_route_takes(path: str, method: str, security: list[Any]) -> None:
    operation = DOCUMENT["paths"][path][method]
    assert operation["security"] == security
    assert ("401" in operation["responses"]) == bool(security)
    assert ("403" in operation["responses"]) == any(role for scheme in security for role in scheme.values())


def test_it_says_what_a_stream_is() -> None:
    answer = CHAT["responses"]["200"]["content"]
    shapes = [f"#/components/schemas/{name}" for name in ("ChatCompletionChunk", "Error")]
    assert answer["text/event-stream"]["schema"] == {"anyOf": [{"$ref": shape} for shape in shapes]}
    assert "data: [DONE]" in CHAT["description"]


def test_another_dialect_is_one_more_operation() -> None:
    more = Operation(
        "post",
        "/v1/other",
        "other",
        "chat",
        "Ask in another dialect",
        {"application/json": dict[str, int]},
        error=dict[str, str],
        codes=ASKS_A_PAGE,
    )
    shown = document([*OPERATIONS, more])
    validate(shown)
    operation = shown["paths"]["/v1/other"]["post"]
    assert set(operation["responses"]) == set(CHAT["responses"])
    error = operation["responses"]["429"]["content"]["application/json"]["schema"]["allOf"][0]
    assert error == {"type": "object", "additionalProperties": {"type": "string"}}

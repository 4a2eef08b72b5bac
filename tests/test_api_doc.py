"""docs/api.md lists every route, and every error code with its status and meaning, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.routing import Route

from api_utils.chat_request import MOST_STOP_SEQUENCES, MOST_TOOLS
from contract.api_error import STATUS, ErrorCode
from contract.chat_body import MOST_MESSAGES, MOST_PARTS
from coordinator.api import build_api
from coordinator.proxy.admission import Access
from coordinator.settings import Settings
from tests.coordinator.proxy.proxied import NoFleet

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| (\d{3}) \| (.+) \|$", PAGE.partition("\n## Errors\n")[2], flags=re.MULTILINE)


def test_the_page_lists_the_routes_beside_v1() -> None:
    routes = {
        (method, route.path)
        for route in build_api(NoFleet(), Access(), bytes).routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    table = PAGE.partition("\n## Routes\n")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`(GET|POST) (/[^`]*)`", table))
    assert {row for row in listed if not row[1].startswith("/v1/")} == routes


def test_the_limits_are_those_of_the_code() -> None:
    rows = PAGE.partition("\n## Limits\n")[2].partition("\n## ")[0]
    variables = {name: (number, unit) for name, number, unit in re.findall(r"\| `([A-Z_]+)`, (\d+) ?(MiB|s|)", rows)}
    for name, (number, unit) in variables.items():
        default = Settings.model_fields[name.lower()].default
        assert int(number) * (1 << 20 if unit == "MiB" else 1) == default, name
    assert {"MAX_BODY_BYTES", "MAX_QUEUE", "QUEUE_TIMEOUT_S", "FIRST_TOKEN_TIMEOUT_S", "STREAM_IDLE_TIMEOUT_S"} == set(
        variables
    )
    fixed = dict(re.findall(r"^\| (.+?) \| ([\d,]+)(?: each)? \|", rows, flags=re.MULTILINE))
    assert fixed == {
        "messages, and parts of all messages together": f"{MOST_MESSAGES:,}",
        "tools": str(MOST_TOOLS),
        "stop sequences": str(MOST_STOP_SEQUENCES),
    }
    assert MOST_PARTS == MOST_MESSAGES


def test_every_code_has_a_status() -> None:
    assert set(STATUS) == set(ErrorCode)


def test_the_page_lists_every_code_once_with_its_status() -> None:
    assert sorted((code, int(status)) for code, status, _ in ROWS) == sorted(
        (code.value, STATUS[code]) for code in STATUS
    )


def test_each_code_has_a_meaning_of_its_own() -> None:
    meanings = [meaning for _, _, meaning in ROWS]
    assert all(meanings)
    assert len(set(meanings)) == len(meanings)


def test_the_rows_are_in_the_order_of_their_status() -> None:
    statuses = [int(status) for _, status, _ in ROWS]
    assert statuses == sorted(statuses)

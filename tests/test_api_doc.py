"""docs/api.md lists every error code of the API with its status and meaning, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from contract.api_error import STATUS, ErrorCode

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| (\d{3}) \| (.+) \|$", PAGE.partition("\n## Errors\n")[2], flags=re.MULTILINE)


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

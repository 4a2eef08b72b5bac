"""docs/clients.md has a row and a section for each client, and says of the same features that a client has none."""

from __future__ import annotations

import re

import pytest

from tests.clients.catalogue import CLIENTS, ROOT, SCENARIOS

PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CLIENTS)
def test_the_page_has_the_client(name: str) -> None:
    client = CLIENTS[name]
    assert f"\n## {client.title}\n" in PAGE
    (row,) = re.findall(rf"^\| {re.escape(client.title)} \| (.*) \|$", PAGE, flags=re.MULTILINE)
    cells = dict(zip(SCENARIOS, row.split(" | "), strict=True))
    assert {scenario for scenario, cell in cells.items() if cell == "none"} == set(client.lacks)
    assert set(cells.values()) <= {"yes", "none", "waits", "error", *map(str, range(1, 20))}

"""A real browser agrees with the verdicts: it loads what is accepted, and refuses what is not."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

from browser.page.profile import as_chromium_loads_it, load_profile
from demo.chromium import chromium_arguments, find_chromium
from tests.coordinator.profiles.support.corrupted import COOKIES, ORIGINS, SOUND, Corrupted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SILENT = {"an address for a domain", "a url without a host"}
"""What Chromium takes without a word, though it then never sends it."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=chromium_arguments())
        yield browser
        browser.close()


def load(chromium: Browser, state: Any) -> int:
    """Load a storage_state and count the cookies that the browser then has."""
    context = chromium.new_context(storage_state=state)
    try:
        return len(context.cookies())
    finally:
        context.close()


@pytest.mark.parametrize("case", [*COOKIES, *ORIGINS], ids=lambda case: case.cause)
def test_browser_refuses_what_is_left_out(chromium: Browser, case: Corrupted) -> None:
    refused: AbstractContextManager[object] = (
        nullcontext() if case.cause in SILENT else pytest.raises((Error, AttributeError))
    )
    with refused:
        load(chromium, json.loads(case.content))


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.cause)
def test_browser_loads_what_is_accepted(chromium: Browser, case: Corrupted, tmp_path: Path) -> None:
    path = tmp_path / case.file_name
    path.write_bytes(case.content)
    state = load_profile(path).state
    alive = sum(cookie.get("expires", -1) != 5 for cookie in state.get("cookies", []))
    assert load(chromium, as_chromium_loads_it(state)) == alive

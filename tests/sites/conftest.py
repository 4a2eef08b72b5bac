"""Each engine and each app, once for the tests that leave them as they found them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from browser.settings import EngineName
from tests.sites.chat_app import ChatApp, chat_app
from tests.support.camoufox import drive_firefox

LONG_IN_FIREFOX = frozenset({"nicegui", "panel", "shiny", "streamlit"})
"""Apps whose fleets run on Firefox in `make test-sites-long` alone; in CI a page of each does: test_apps.py."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if parameters.get("served") == "firefox" and parameters.get("app_name") in LONG_IN_FIREFOX:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session", params=["chromium", "firefox", "camoufox"])
def engine(request: pytest.FixtureRequest) -> Iterator[EngineName]:
    """Each engine in turn; Camoufox is its own API with Firefox ESR in place of its own build."""
    name: EngineName = request.param
    with pytest.MonkeyPatch.context() as patch:
        if name == "camoufox":
            drive_firefox(patch)
        yield name


@pytest.fixture(scope="session", params=["chainlit", "gradio"])
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatApp]:
    """Each app in turn."""
    with chat_app(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running

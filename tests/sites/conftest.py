"""Each engine and each app, once for the tests that leave them as they found them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import engine as engines
from browser.engine import EngineName, Launch, find_executable
from browser.settings import BrowserSettings
from tests.sites.chat_app import ChatApp, chat_app


@pytest.fixture(scope="session", params=["chromium", "firefox", "camoufox"])
def engine(request: pytest.FixtureRequest) -> Iterator[EngineName]:
    """Each engine in turn; Camoufox is its own API with Firefox ESR in place of its own build."""
    name: EngineName = request.param
    with pytest.MonkeyPatch.context() as patch:
        if name == "camoufox":
            firefox = find_executable("firefox", BrowserSettings())
            patch.setattr(engines, "_find_camoufox", lambda _: firefox)
            patch.setattr(engines, "_camoufox_options", _with_channel(engines._camoufox_options))
        yield name


def _with_channel(options: Any) -> Any:
    def made(plan: Launch) -> dict[str, Any]:
        return {**options(plan), "channel": "moz-firefox"}

    return made


@pytest.fixture(scope="session", params=["chainlit", "gradio"])
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatApp]:
    """Each app in turn."""
    with chat_app(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@pytest.fixture
def own_app(request: pytest.FixtureRequest, app: ChatApp, tmp_path: Path) -> Iterator[ChatApp]:
    """An app that may be ended."""
    with chat_app(app.name, tmp_path) as running:
        yield running

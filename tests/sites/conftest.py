"""Each engine and each app, once for the tests that leave them as they found them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from browser.settings import EngineName
from tests.sites.chat_app import ChatApp, chat_app
from tests.support.camoufox import drive_firefox


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

"""Which responses of a page say that the prompt's own request was refused for want of a login."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from browser.page.refusals import LoginRefusals
from browser.site.load import load_site


class EmittingPage:
    """A page's responses, as the test gives them."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Any], None]] = []

    def on(self, event: str, listener: Callable[[Any], None]) -> None:
        assert event == "response"
        self.listeners.append(listener)

    def remove_listener(self, _: str, listener: Callable[[Any], None]) -> None:
        self.listeners.remove(listener)

    def respond(self, status: int, method: str, url: str) -> None:
        request = SimpleNamespace(method=method, url=f"http://127.0.0.1:8800{url}")
        for listener in self.listeners:
            listener(SimpleNamespace(status=status, request=request))


@pytest.mark.parametrize(
    ("status", "method", "url", "seen"),
    [
        (401, "POST", "/api/chat", True),
        (401, "GET", "/api/chat", False),
        (401, "POST", "/api/me", False),
        (403, "POST", "/api/chat", False),
        (200, "POST", "/api/chat", False),
    ],
)
def test_only_the_prompts_own_request_counts(status: int, method: str, url: str, *, seen: bool) -> None:
    page = EmittingPage()
    refusals = LoginRefusals(cast("Any", page), load_site("demo"))
    refusals.stop()  # a prompt that was never sent
    page.respond(status, method, url)
    assert not refusals.seen
    refusals.start()
    page.respond(status, method, url)
    assert refusals.seen is seen
    refusals.stop()
    assert page.listeners == []

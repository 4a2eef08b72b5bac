"""Camoufox's own API on Firefox ESR: its build, and the model it draws identities from, cannot be had everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from browser.process import engine
from browser.process.engine import Launch, find_executable
from browser.settings import BrowserSettings


def drive_firefox(patch: pytest.MonkeyPatch) -> None:
    """From here on the engine camoufox is its API, given the options that start Firefox ESR."""
    firefox = find_executable("firefox", BrowserSettings())
    patch.setattr(engine, "find_camoufox", lambda _: firefox)
    patch.setattr(engine, "camoufox_options", _firefox_options)


def _firefox_options(plan: Launch) -> dict[str, Any]:
    return engine.launch_options(plan) | {"channel": "moz-firefox"}

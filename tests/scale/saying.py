"""What a scale test says to whoever runs it, also where it passes: figures, and what it could not use."""

from __future__ import annotations

import contextlib

import pytest


class Said:
    """Lines for whoever runs the test, also where it passes."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._capture = request.config.pluginmanager.getplugin("capturemanager")

    def __call__(self, line: object) -> None:
        with self._capture.global_and_fixture_disabled() if self._capture else contextlib.nullcontext():
            print(f"\n{line}", end="", flush=True)  # noqa: T201 - see the class

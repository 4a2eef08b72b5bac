"""A package that is imported when a test first needs it.

Each worker of pytest-xdist imports all test files. What takes seconds to import, and is needed by a few tests, would
cost these seconds in each worker.
"""

from __future__ import annotations

import importlib
from typing import Any


class LazyModule:
    """A module that is imported when one of its public names is first looked up."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        """Look the name up. Private ones are not: pytest asks all that a test file holds for some of its own."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)

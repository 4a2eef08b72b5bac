"""What a program's time goes into: functions that add what they take to the part they belong to."""

from __future__ import annotations

import functools
import importlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any


class Parts:
    """Seconds by part, since `began` (of `time.monotonic()`), for a program of one thread."""

    def __init__(self, began: float) -> None:
        self._began = began
        self.took = defaultdict[str, float](float)

    def load(self, part: str, module: str) -> Any:
        """Import a module; its import is a part."""
        began = time.monotonic()
        loaded = importlib.import_module(module)
        self.took[part] += time.monotonic() - began
        return loaded

    def watch(self, parts: Mapping[str, Sequence[str]]) -> None:
        """Time functions, named in full, from now on; those of one part must not call each other."""
        for part, names in parts.items():
            for name in names:
                self._watch(name, part)

    def finish(self) -> dict[str, float]:
        """All parts, ``the rest`` and the ``total``."""
        total = time.monotonic() - self._began
        self.took["the rest"] = total - sum(self.took.values())
        return {**self.took, "total": total}

    def _watch(self, name: str, part: str) -> None:
        owner, attribute = _owner(name)
        function = getattr(owner, attribute)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.monotonic()
            try:
                return function(*arguments, **named)
            finally:
                self.took[part] += time.monotonic() - began

        setattr(owner, attribute, timed)


def _owner(name: str) -> tuple[Any, str]:
    """The module or the class that holds what is named."""
    path, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(path), attribute
    except ModuleNotFoundError:
        module, _, class_name = path.rpartition(".")
        return getattr(importlib.import_module(module), class_name), attribute

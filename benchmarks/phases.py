"""Time the phases of a program by wrapping its functions."""

from __future__ import annotations

import functools
import importlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any


class PhaseTimer:
    """Seconds by phase since `began`, a time.monotonic(), for a single-threaded program."""

    def __init__(self, began: float) -> None:
        self._began = began
        self.took = defaultdict[str, float](float)

    def load(self, phase: str, module: str) -> Any:
        """Import and return a module, and add the time of the import to a phase."""
        began = time.monotonic()
        loaded = importlib.import_module(module)
        self.took[phase] += time.monotonic() - began
        return loaded

    def watch(self, phases: Mapping[str, Sequence[str]]) -> None:
        """Wrap functions, given by full name; timed functions must not call each other."""
        for phase, names in phases.items():
            for name in names:
                self._wrap(name, phase)

    def finish(self) -> dict[str, float]:
        """Return the seconds of all phases, of `the rest`, and the `total`."""
        total = time.monotonic() - self._began
        self.took["the rest"] = total - sum(self.took.values())
        return {**self.took, "total": total}

    def _wrap(self, name: str, phase: str) -> None:
        owner, attribute = _owner(name)
        function = getattr(owner, attribute)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.monotonic()
            try:
                return function(*arguments, **named)
            finally:
                self.took[phase] += time.monotonic() - began

        setattr(owner, attribute, timed)


def _owner(name: str) -> tuple[Any, str]:
    """Return the module or class that holds the named function, and the function's name in it."""
    path, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(path), attribute
    except ModuleNotFoundError:
        module, _, class_name = path.rpartition(".")
        return getattr(importlib.import_module(module), class_name), attribute

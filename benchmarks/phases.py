"""Time the phases of a program by wrapping its functions."""

from __future__ import annotations

import functools
import importlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

_BESIDE: Final = "s3"
"""The name of the threads that `coordinator.profiles.s3_client.begin` starts."""


class PhaseTimer:
    """Seconds by phase since `began`, a time.monotonic(): `took` of wall, `cpu` of CPU.

    What the threads for S3 do goes on beside the phases, and is in none of them.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self.took = defaultdict[str, float](float)
        self.cpu = defaultdict[str, float](float)

    def load(self, phase: str, module: str) -> Any:
        """Import and return a module, and add the time of the import to a phase."""
        with self._timed(phase):
            return importlib.import_module(module)

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

    def finish_cpu(self) -> dict[str, float]:
        """Return the seconds of CPU of all phases, `the rest` of this thread, `other threads` and the `total`."""
        total, main = time.process_time(), time.thread_time()
        rest = main - sum(self.cpu.values())
        return {**self.cpu, "the rest": rest, "other threads": total - main, "total": total}

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began, cpu_began = time.monotonic(), time.thread_time()
        try:
            yield
        finally:
            if threading.current_thread().name != _BESIDE:
                self.took[phase] += time.monotonic() - began
                self.cpu[phase] += time.thread_time() - cpu_began

    def _wrap(self, name: str, phase: str) -> None:
        owner, attribute = _owner(name)
        function = getattr(owner, attribute)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self._timed(phase):
                return function(*arguments, **named)

        setattr(owner, attribute, timed)


def _owner(name: str) -> tuple[Any, str]:
    """Return the module or class that holds the named function, and the function's name in it."""
    path, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(path), attribute
    except ModuleNotFoundError:
        module, _, class_name = path.rpartition(".")
        return getattr(importlib.import_module(module), class_name), attribute

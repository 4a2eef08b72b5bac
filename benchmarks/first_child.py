"""Runs the coordinator up to its first child, then prints as JSON how many seconds each part took, and ends.

BENCHMARK_BEGAN is the time.monotonic() at which whoever starts this did so.
"""

from __future__ import annotations

import time

REACHED = time.monotonic()

import functools  # noqa: E402 - the interpreter's own start is a part of its own
import importlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections import defaultdict  # noqa: E402
from typing import Any, NoReturn  # noqa: E402

PARTS = {
    "settings": ("coordinator.main.load_settings",),
    "AWS SDK": ("coordinator.profiles.s3.S3ProfileProvider._connect",),
    "S3 listing": ("coordinator.profiles.s3.take_stock",),
    "validation": (
        "coordinator.profiles.s3_update.Update.unchanged",
        "coordinator.profiles.s3.S3ProfileProvider._examine",
        "coordinator.profiles.s3.judge",
        "coordinator.profiles.hydration.discover_profiles",
    ),
    "ports": ("coordinator.supervision.plan.PortPlan.check", "coordinator.fleet.check_ports_free"),
    "memory plan": ("coordinator.fleet.plan_memory",),
}


def main() -> int:
    began, took = float(os.environ["BENCHMARK_BEGAN"]), defaultdict[str, float](float)
    took["interpreter"] = REACHED - began
    program: Any = importlib.import_module("coordinator.main")
    took["imports"] = time.monotonic() - REACHED
    for part, names in PARTS.items():
        for name in names:
            _time(name, part, took)

    async def stop(*_: Any) -> NoReturn:
        total = time.monotonic() - began
        took["the rest"] = total - sum(took.values())
        sys.stdout.write(json.dumps({**took, "total": total}) + "\n")
        sys.stdout.flush()
        os._exit(0)

    importlib.import_module("coordinator.local.launcher").LocalLauncher._spawn = stop  # noqa: SLF001 - the instant before a child
    code: int = program.main([])
    return code


def _time(name: str, part: str, took: dict[str, float]) -> None:
    """Make a function add the time it takes to its part."""
    owner: Any
    path, _, attribute = name.rpartition(".")
    try:
        owner = importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, class_name = path.rpartition(".")
        owner = getattr(importlib.import_module(module), class_name)
    function = getattr(owner, attribute)

    @functools.wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.monotonic()
        try:
            return function(*arguments, **named)
        finally:
            took[part] += time.monotonic() - began

    setattr(owner, attribute, timed)


if __name__ == "__main__":
    sys.exit(main())

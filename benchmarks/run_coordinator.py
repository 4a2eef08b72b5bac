"""The coordinator with children that cost next to nothing, otherwise as `python -m coordinator.main` runs it.

`--frugal` as the first word: children of which a thousand fit on a small machine, started many at a time. What such
children need of memory is not what the plan for browsers allows for, so that it is left out.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from coordinator.main import main
from coordinator.settings import Settings
from coordinator.supervision.policy import Policy

PARALLEL_STARTS = 32


def _hurry() -> None:
    fleet: Any = importlib.import_module("coordinator.fleet")
    usual = Policy.from_settings

    def from_settings(settings: Settings) -> Policy:
        return replace(usual(settings), parallel_starts=PARALLEL_STARTS)

    fleet.Policy.from_settings, fleet.memory_limit = from_settings, lambda: None


if __name__ == "__main__":
    flags, program = sys.argv[1:], [sys.executable, str(Path(__file__).with_name("cheap_child.py"))]
    if flags[:1] == ["--frugal"]:
        _hurry()
        flags, program = flags[1:], [sys.executable, "-I", "-S", str(Path(__file__).with_name("frugal_child.py"))]
    sys.exit(main(flags, program=tuple(program)))

"""`python -m coordinator.main` with stub children in place of browsers.

`--tiny` as the first argument selects tiny_stub_child.py, starts many at a time, and disables the memory plan, which
reckons with the size of a browser. `--served-by PATH` after it has one process answer for all children.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.tiny_stub_child import PROGRAM
from coordinator.main import main
from coordinator.settings import Settings
from coordinator.supervision.policy import Policy

PARALLEL_STARTS = 32


def start_many_at_a_time() -> None:
    """Raise the limit of parallel starts and remove the memory limit."""
    fleet: Any = importlib.import_module("coordinator.fleet")
    default = Policy.from_settings

    def from_settings(settings: Settings) -> Policy:
        return replace(default(settings), parallel_starts=PARALLEL_STARTS)

    fleet.Policy.from_settings, fleet.memory_limit = from_settings, lambda: None


if __name__ == "__main__":
    flags, program = sys.argv[1:], [sys.executable, str(Path(__file__).with_name("stub_child.py"))]
    if flags[:1] == ["--tiny"]:
        start_many_at_a_time()
        served = flags[1:3] if flags[1:2] == ["--served-by"] else []
        flags = flags[1 + len(served) :]
        program = [*PROGRAM, *served]
    sys.exit(main(flags, program=tuple(program)))

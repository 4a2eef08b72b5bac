"""Runs the benchmarks that are named, or all, one after the other, and prints a table of each.

A further one is a module with `run(console) -> Result` and a line in BENCHMARKS.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console

from benchmarks import hydration, proxy, scale, start, supervision
from benchmarks.report import Benchmark, show

BENCHMARKS: Mapping[str, Benchmark] = {
    "proxy": proxy.run,
    "hydration": hydration.run,
    "start": start.run,
    "supervision": supervision.run,
    "scale": scale.run,
}


def main(names: Sequence[str]) -> int:
    """Run them; 2 for a name that is none."""
    console = Console()
    if unknown := [name for name in names if name not in BENCHMARKS]:
        console.print(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
        return 2
    for name in names or BENCHMARKS:
        show(console, BENCHMARKS[name](console))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

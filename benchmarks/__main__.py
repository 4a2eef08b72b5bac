"""Runs the benchmarks that are named, or all, one after the other, and prints a table of each.

`pages` stands for all whose names begin so. A further one is a module with `run(console) -> Result` and a line in
BENCHMARKS.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console

from benchmarks import hydration, proxy, scale, start, supervision
from benchmarks.pages.run import BENCHMARKS as PAGES
from benchmarks.report import Benchmark, show

BENCHMARKS: Mapping[str, Benchmark] = {
    "proxy": proxy.run,
    "hydration": hydration.run,
    "start": start.run,
    "supervision": supervision.run,
    "scale": scale.run,
    **PAGES,
}


def main(names: Sequence[str]) -> int:
    """Run them; 2 for a name that is none."""
    console = Console()
    if unknown := [name for name in names if not _meant(name)]:
        console.print(f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
        return 2
    chosen = [meant for name in names for meant in _meant(name)]
    for name in chosen or BENCHMARKS:
        show(console, BENCHMARKS[name](console))
    return 0


def _meant(name: str) -> list[str]:
    return [known for known in BENCHMARKS if known == name or known.startswith(f"{name}-")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

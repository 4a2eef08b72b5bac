"""Run the named benchmarks, or all, one after the other, and print a table of each.

A prefix such as `pages` selects every benchmark whose name starts with it and a dash. To add a benchmark, write a
module with `run(console) -> Result` and add it to BENCHMARKS.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console

from benchmarks import cells, hostile, hydration, proxy, remote_login, scale, start, supervision
from benchmarks.density import BENCHMARKS as DENSITY
from benchmarks.looks import BENCHMARKS as LOOKS
from benchmarks.pages.benchmark import BENCHMARKS as PAGES
from benchmarks.report import Benchmark, show
from benchmarks.spares import BENCHMARKS as SPARES
from benchmarks.wake import BENCHMARKS as WAKE

BENCHMARKS: Mapping[str, Benchmark] = {
    "proxy": proxy.run,
    "hydration": hydration.run,
    "start": start.run,
    **SPARES,
    **WAKE,
    "supervision": supervision.run,
    "scale": scale.run,
    "cells": cells.run,
    "hostile": hostile.run,
    "remote-login": remote_login.run,
    **PAGES,
    **LOOKS,
    **DENSITY,
}


def main(names: Sequence[str]) -> int:
    """Run the benchmarks and return the exit code: 0, or 2 for an unknown name."""
    console = Console()
    if unknown := [name for name in names if not _matching(name)]:
        console.print(f"unknown benchmark: {', '.join(unknown)}; choose from {', '.join(BENCHMARKS)}")
        return 2
    chosen = [match for name in names for match in _matching(name)]
    for name in chosen or BENCHMARKS:
        show(console, BENCHMARKS[name](console))
    return 0


def _matching(name: str) -> list[str]:
    return [known for known in BENCHMARKS if known == name or known.startswith(f"{name}-")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

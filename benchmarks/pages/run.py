"""Each engine on each site as a benchmark of its own: `python -m benchmarks pages-chromium-demo`, or all by `pages`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from rich.console import Console

from benchmarks.pages.findings import result
from benchmarks.pages.measuring import measure
from benchmarks.pages.site import SITES
from benchmarks.report import Benchmark, Result
from browser.settings import EngineName
from contract.logs import configure_logging

ENGINES: tuple[EngineName, ...] = ("chromium", "firefox")


def run(engine: EngineName, site: str, console: Console) -> Result:
    """Measure one engine on one site."""
    configure_logging("console", "error")
    return result(engine, site, measure(console, engine, site))


BENCHMARKS: Mapping[str, Benchmark] = {
    f"pages-{engine}-{site}": partial(run, engine, site) for engine in ENGINES for site in SITES
}

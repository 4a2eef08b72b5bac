"""Compare each engine on each site with its targets: `python -m benchmarks pages-chromium-demo`, or all by `pages`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from statistics import median, quantiles

from rich.console import Console

from benchmarks.pages.measure import ANSWERS, STARTS, SUBMISSIONS, TOKENS, Measurements, SubmitTimes, measure
from benchmarks.pages.timestamped_app import SITES
from benchmarks.report import Benchmark, Compared, Result
from browser.settings import EngineName
from contract.logs import configure_logging

ENGINES: tuple[EngineName, ...] = ("chromium", "firefox")

ADDED_MS: Mapping[EngineName, tuple[float, float]] = {"chromium": (2.0, 10.0), "firefox": (3.0, 15.0)}
"""Targets for what is added to a token over the page's own script, p50 and p99."""
# Further targets for a child with Chromium; the other engines have none.
FIRST_MS = 10.0
SHORT_RATIO, LONG_MORE_MS, START_RATIO, MEMORY_RATIO = 1.0, 150.0, 1.2, 1.1
# From timestamps at each hop, CPU by process, and py-spy; by the prefix of the row's name.
LARGEST_COSTS = {
    "app to client, a token": "the largest remaining cost is the page's main thread, which an app that renders all its "
    "Markdown for each token keeps busy (two thirds of all CPU on Chainlit); from the page's script to the client it "
    "takes 1.3 ms",
    "app to client, the first": "the largest remaining cost is the page's main thread: on Chainlit it renders the "
    "prompt for 60 ms before it handles the token; from the page's script to the client it takes 1.3 to 3 ms",
    "request to prompt": "the largest remaining cost is the app's, from Enter to its prompt: 80 of 100 ms on Gradio",
    "child's start": "the largest remaining cost is the import of playwright and pydantic",
    "memory": "the largest part of the Python process is the code that it imports, playwright's first: 16 of 46 MB",
}


def result(engine: EngineName, site: str, found: Measurements) -> Result:
    """Return the comparison of one engine and site with its targets."""
    has_aims = engine == "chromium"
    p50_ms, p99_ms = ADDED_MS[engine]
    rows = [
        *_arrival("app to client, a token, p50 of an answer", found, partial(_percentiles, percent=50), p50_ms),
        *_arrival("app to client, a token, p99 of an answer", found, partial(_percentiles, percent=99), p99_ms),
        *_arrival("app to client, the first token", found, _firsts, FIRST_MS if has_aims else None),
        *_submitted("20 characters", found.short, ratio=SHORT_RATIO if has_aims else None),
        *_submitted("100 kB", found.long, more=LONG_MORE_MS if has_aims else None),
        Compared.of_runs(
            "child's start to ready", "ms", found.start, "script", found.bare_start, START_RATIO if has_aims else None
        ),
        *_memory(found, ratio=MEMORY_RATIO if has_aims else None),
    ]
    title = f"{engine} on {site}: {ANSWERS} answers of {TOKENS} tokens, {SUBMISSIONS} prompts, {STARTS} starts"
    missed = Result(title, rows).missed
    costs = [f"{what}: {cost}" for what, cost in LARGEST_COSTS.items() if any(row.startswith(what) for row in missed)]
    return Result(title, rows, costs)


def _arrival(
    what: str, found: Measurements, figures: Callable[[list[list[float]]], list[float]], aim_more: float | None
) -> list[Compared]:
    """Compare with the page by itself: what it is given is its share, and what it shows is what a person waits for."""
    ours, received, shown = figures(found.late), figures(found.received), figures(found.shown)
    return [
        Compared.of_runs(what, "ms", ours, "app to the page's own script", received, None, aim_more),
        Compared.of_runs(what, "ms", ours, "app to the page's own text", shown),
    ]


def _percentiles(late: list[list[float]], percent: int) -> list[float]:
    return [quantiles(answer, n=100, method="inclusive")[percent - 1] for answer in late]


def _firsts(late: list[list[float]]) -> list[float]:
    return [answer[0] for answer in late]


def _submitted(
    what: str, times: SubmitTimes, *, ratio: float | None = None, more: float | None = None
) -> list[Compared]:
    return [
        Compared.of_runs(f"request to prompt, {what}", "ms", times.ours, peer, peers, ratio, more)
        for peer, peers in (("script", times.script), ("script, chat opened before", times.fill_and_send))
    ]


def _memory(found: Measurements, *, ratio: float | None) -> list[Compared]:
    rows = []
    for part in ("python", "driver", "browser"):
        ours, bare = ([getattr(memory, part) for memory in side] for side in (found.memory, found.bare_memory))
        rows.append(Compared(f"memory (PSS), {part}", "MB", median(ours), "script", median(bare)))
    for when, measured in (("ready", found.memory), ("after answers", found.memory_after)):
        total = median(memory.total for memory in measured)
        # A child cannot be smaller than the driver and the browser it needs.
        least = median(memory.driver + memory.browser for memory in measured)
        rows.append(Compared(f"memory (PSS), child {when}", "MB", total, "its driver + browser", least, ratio))
    return rows


def run(engine: EngineName, site: str, console: Console) -> Result:
    """Measure one engine on one site."""
    configure_logging("console", "error")
    return result(engine, site, measure(console, engine, site))


BENCHMARKS: Mapping[str, Benchmark] = {
    f"pages-{engine}-{site}": partial(run, engine, site) for engine in ENGINES for site in SITES
}

"""What was measured, as tables with the aims."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles

from benchmarks.pages.measuring import ANSWERS, STARTS, SUBMISSIONS, TOKENS, Found, Submitted
from benchmarks.pages.memory import Parts
from benchmarks.report import Compared, Figure, Result

# What a child may cost in Chromium; elsewhere there is only something to show.
TOKEN_P50_MS, TOKEN_P99_MS, FIRST_MS = 2.0, 10.0, 10.0
SHORT_RATIO, LONG_MORE_MS, START_RATIO, MEMORY_RATIO = 1.0, 150.0, 1.5, 1.15
# From stamps at each hop, CPU by process, and py-spy; the beginning of a row's name to what it costs most.
LARGEST_COSTS = {
    "added to a token": "the largest cost left is until the page's script has it: 0.7 of 2 ms on the demo site, and "
    "all that the page's thread is busy where an app lays its Markdown out anew with each token (two thirds of all CPU "
    "on Chainlit); from the script to the client it is 1.3 ms",
    "added to the first": "the largest cost left is the page's thread: on Chainlit it is laying out the prompt for "
    "60 ms before it comes to the token; from the page's script to the client it is 1.3 to 3 ms",
    "request to prompt": "the largest cost left is the app's own, from Enter to its prompt: 80 of 100 ms on Gradio",
    "child's start": "the largest cost left is to import playwright, pydantic, and aiohttp for one WebSocket",
    "memory": "the largest part of the Python process is playwright's generated API: 16 of 50 MB",
}


def result(engine: str, site: str, found: Found) -> Result:
    """The tables of one engine and site."""
    has_aims = engine == "chromium"
    figures = [
        Figure("added to a token, p50 of an answer", "ms", _percentiles(found, 50), TOKEN_P50_MS if has_aims else None),
        Figure("added to a token, p99 of an answer", "ms", _percentiles(found, 99), TOKEN_P99_MS if has_aims else None),
        Figure("added to the first token", "ms", found.first, FIRST_MS if has_aims else None),
    ]
    rows = [
        *_submitted("20 characters", found.short, ratio=SHORT_RATIO if has_aims else None),
        *_submitted("100 kB", found.long, more=LONG_MORE_MS if has_aims else None),
        Compared.of_runs(
            "child's start to ready", "ms", found.start, "script", found.bare_start, START_RATIO if has_aims else None
        ),
        *_memory(found, ratio=MEMORY_RATIO if has_aims else None),
    ]
    title = f"{engine} on {site}: {ANSWERS} answers of {TOKENS} tokens, {SUBMISSIONS} prompts, {STARTS} starts"
    found_wanting = Result(title, rows, figures=figures).missed
    costs = [
        f"{what}: {cost}" for what, cost in LARGEST_COSTS.items() if any(row.startswith(what) for row in found_wanting)
    ]
    return Result(title, rows, costs, figures)


def _percentiles(found: Found, percent: int) -> list[float]:
    return [quantiles(late, n=100, method="inclusive")[percent - 1] for late in found.late]


def _submitted(what: str, times: Submitted, *, ratio: float | None = None, more: float | None = None) -> list[Compared]:
    return [
        Compared.of_runs(f"request to prompt, {what}", "ms", times.ours, peer, peers, ratio, more)
        for peer, peers in (("script", times.script), ("script, fresh before", times.fill_and_send))
    ]


def _memory(found: Found, *, ratio: float | None) -> list[Compared]:
    ours, bare = found.memory, found.bare_memory

    def of(part: str) -> Compared:
        (mine, theirs) = ([getattr(parts, part) for parts in side] for side in (ours, bare))
        return Compared(f"memory (PSS), {part}", "MB", median(mine), "script", median(theirs))

    return [
        *map(of, ("python", "driver", "browser")),
        *(
            _in_all(what, all_parts, ratio)
            for what, all_parts in (("ready", ours), ("after answers", found.memory_after))
        ),
    ]


def _in_all(what: str, all_parts: Sequence[Parts], ratio: float | None) -> Compared:
    total = median(parts.total for parts in all_parts)
    beside = median(parts.driver + parts.browser for parts in all_parts)
    return Compared(f"memory (PSS), child {what}", "MB", total, "its driver + browser", beside, ratio)

"""The report of a chaos run, and whether it passes."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tests.chaos.runner import Outcome

MUST_BE_ZERO = (
    "wrong answers",
    "submitted twice",
    "hung clients",
    "leaked leases",
    "leaked processes",
    "leaked descriptors",
    "zombies",
    "leftover temporary files",
)
SHOWN_FAULTS = 5


def rows(outcome: Outcome) -> dict[str, str]:
    """Return the rows of the report in order."""
    findings, leaks = outcome.findings, outcome.leaks
    counts = {
        "requests": findings.requests,
        "answered": findings.answered,
        "refused with a proper error": findings.refused,
        "left by the client": findings.left,
        "wrong answers": len(findings.wrong),
        "submitted twice": len(findings.submitted_twice),
        "hung clients": len(findings.hung),
        "leaked leases": leaks.leases,
        "leaked processes": leaks.processes,
        "leaked descriptors": leaks.descriptors,
        "zombies": leaks.zombies,
        "leftover temporary files": leaks.files,
    }
    memory = {"memory at start": outcome.start_bytes, "memory at end": outcome.end_bytes}
    return {name: f"{count:,}" for name, count in counts.items()} | {
        name: f"{size / 1e6:.1f} MB" for name, size in memory.items()
    }


def bad_rows(outcome: Outcome) -> list[str]:
    """Return the rows that must be 0 and are not."""
    return [name for name, value in rows(outcome).items() if name in MUST_BE_ZERO and value != "0"]


def passed(outcome: Outcome) -> bool:
    """Return whether every check passes."""
    return not bad_rows(outcome) and not outcome.notes


def show(outcome: Outcome, console: Console) -> None:
    """Print the report, then the details of what failed."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    bad = bad_rows(outcome)
    for name, value in rows(outcome).items():
        table.add_row(name, value, style="bold red" if name in bad else "")
    console.print(table)
    times = outcome.times
    console.print(
        f"{outcome.faults} faults in {times.requests:.0f} s; all children READY after {times.recovery:.1f} s,"
        f" no leaks after {times.settling:.1f} s, stopped in {times.end:.1f} s"
    )
    for line in outcome.findings.wrong[:SHOWN_FAULTS]:
        console.print(f"wrong: {line}", markup=False, highlight=False)
    for line in outcome.findings.hung[:SHOWN_FAULTS]:
        console.print(f"hung: {line}", markup=False, highlight=False)
    if outcome.leaks.any:
        console.print(f"leaked: {outcome.leaks.more}", markup=False, highlight=False)
    for line in outcome.notes:
        console.print(f"mismatch: {line}", markup=False, highlight=False)

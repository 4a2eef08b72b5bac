"""What a benchmark brings back: figures beside the peers', their ratio, the aim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Compared:
    """One figure of ours beside a peer's; smaller is better.

    `aim` is the largest ratio to be content with; None where there is only something to show.
    """

    what: str
    unit: str
    ours: float
    peer: str
    peers: float
    aim: float | None = None

    @property
    def ratio(self) -> float:
        return self.ours / self.peers

    @property
    def met(self) -> bool:
        return self.aim is None or self.ratio <= self.aim


@dataclass(frozen=True)
class Result:
    """What one benchmark found. `notes` are lines below the table."""

    title: str
    rows: Sequence[Compared]
    notes: Sequence[str] = ()


Benchmark = Callable[[Console], Result]


def show(console: Console, result: Result) -> None:
    """Print the table."""
    table = Table(title=result.title, title_justify="left")
    for name in ("measured", "ours", "beside", "theirs", "ratio", "aim"):
        table.add_column(name, justify="left" if name in ("measured", "beside") else "right")
    for row in result.rows:
        verdict = "" if row.aim is None else f"{row.aim:g}x {'met' if row.met else 'MISSED'}"
        ours, theirs = f"{row.ours:.1f} {row.unit}", f"{row.peers:.1f} {row.unit}"
        table.add_row(row.what, ours, row.peer, theirs, f"{row.ratio:.2f}x", verdict)
    console.print(table)
    for note in result.notes:
        console.print(note, highlight=False)

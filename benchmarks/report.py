"""What a benchmark brings back: figures, beside the peers' where there are peers, and the aim."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Compared:
    """One figure of ours beside a peer's; smaller is better.

    `aim` is the largest ratio to be content with, or `aim_more` the largest difference, in the same unit; None where
    there is only something to show. `ours_runs` and `peers_runs` are what the figures are the medians of, where their
    range is to be shown.
    """

    what: str
    unit: str
    ours: float
    peer: str
    peers: float
    aim: float | None = None
    ours_runs: Sequence[float] = ()
    peers_runs: Sequence[float] = ()
    aim_more: float | None = None

    @classmethod
    def of_runs(  # noqa: PLR0913, PLR0917 - the fields, in their order
        cls,
        what: str,
        unit: str,
        ours: Sequence[float],
        peer: str,
        peers: Sequence[float],
        aim: float | None = None,
        aim_more: float | None = None,
    ) -> Compared:
        """Compare the medians of several runs, and show their ranges."""
        return cls(what, unit, median(ours), peer, median(peers), aim, ours, peers, aim_more)

    @property
    def ratio(self) -> float:
        return self.ours / self.peers

    @property
    def met(self) -> bool:
        is_met = self.aim is None or self.ratio <= self.aim
        return is_met and (self.aim_more is None or self.ours - self.peers <= self.aim_more)

    @property
    def aim_text(self) -> str:
        """The aim in words, and whether it is met; empty where there is none."""
        if self.aim is not None:
            return f"{self.aim:g}x {_verdict(met=self.met)}"
        if self.aim_more is not None:
            return f"+{self.aim_more:g} {self.unit} {_verdict(met=self.met)}"
        return ""


@dataclass(frozen=True)
class Figure:
    """A figure that stands alone: the median of its runs; smaller is better.

    `aim` is the largest median to be content with, in the same unit; None where there is only something to show.
    """

    what: str
    unit: str
    runs: Sequence[float]
    aim: float | None = None

    @property
    def value(self) -> float:
        return median(self.runs)

    @property
    def met(self) -> bool:
        return self.aim is None or self.value <= self.aim


@dataclass(frozen=True)
class Result:
    """What one benchmark found. `notes` are lines below the tables."""

    title: str
    rows: Sequence[Compared]
    notes: Sequence[str] = ()
    figures: Sequence[Figure] = ()

    @property
    def missed(self) -> list[str]:
        """What did not meet its aim."""
        return [
            *(figure.what for figure in self.figures if not figure.met),
            *(row.what for row in self.rows if not row.met),
        ]


Benchmark = Callable[[Console], Result]


def show(console: Console, result: Result) -> None:
    """Print the tables."""
    if result.figures:
        console.print(_figures(result))
    if result.rows:
        console.print(_compared(result))
    for note in result.notes:
        console.print(note, highlight=False)
    console.print(f"Load of this machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.", style="dim")


def _figures(result: Result) -> Table:
    table = Table(title=result.title, title_justify="left")
    for name in ("measured", "median", "lowest to highest", "aim"):
        table.add_column(name, justify="left" if name == "measured" else "right")
    for figure in result.figures:
        aim = "" if figure.aim is None else f"{figure.aim:g} {figure.unit} {_verdict(met=figure.met)}"
        table.add_row(figure.what, f"{figure.value:.1f} {figure.unit}", _range(figure.runs), aim)
    return table


def _compared(result: Result) -> Table:
    table = Table(title=None if result.figures else result.title, title_justify="left")
    for name in ("measured", "ours", "beside", "theirs", "ratio", "aim"):
        table.add_column(name, justify="left" if name in ("measured", "beside") else "right")
    for row in result.rows:
        ours, theirs = _value(row.ours, row.unit, row.ours_runs), _value(row.peers, row.unit, row.peers_runs)
        table.add_row(row.what, ours, row.peer, theirs, f"{row.ratio:.2f}x", row.aim_text)
    return table


def _value(value: float, unit: str, runs: Sequence[float]) -> str:
    return f"{value:.1f} {unit} ({_range(runs)})" if runs else f"{value:.1f} {unit}"


def _range(runs: Sequence[float]) -> str:
    return f"{min(runs):.1f} to {max(runs):.1f}"


def _verdict(*, met: bool) -> str:
    return "met" if met else "MISSED"

"""Results of a benchmark: figures, comparisons with other programs, and targets; printed as tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Compared:
    """One of our figures compared with a peer's; smaller is better.

    The target is `aim`, the largest ratio, or `aim_more`, the largest difference in the same unit; None means none.
    `ours_runs` and `peers_runs` are the values that the figures are medians of; if given, their range is shown.
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
        """Return the comparison of the medians of several runs, with their ranges."""
        return cls(what, unit, median(ours), peer, median(peers), aim, ours, peers, aim_more)

    @property
    def ratio(self) -> float:
        """Return ours divided by the peer's."""
        return self.ours / self.peers

    @property
    def met(self) -> bool:
        """Return whether the target is met; True without a target."""
        is_met = self.aim is None or self.ratio <= self.aim
        return is_met and (self.aim_more is None or self.ours - self.peers <= self.aim_more)

    @property
    def aim_text(self) -> str:
        """Return the target and whether it is met; an empty string without a target."""
        if self.aim is not None:
            return f"{self.aim:g}x {_verdict(met=self.met)}"
        if self.aim_more is not None:
            return f"+{self.aim_more:g} {self.unit} {_verdict(met=self.met)}"
        return ""


@dataclass(frozen=True)
class Figure:
    """A figure without a peer: the median of `runs`; smaller is better.

    `aim` is the target, the largest median in the same unit; None means none.
    """

    what: str
    unit: str
    runs: Sequence[float]
    aim: float | None = None

    @property
    def value(self) -> float:
        """Return the median."""
        return median(self.runs)

    @property
    def met(self) -> bool:
        """Return whether the target is met; True without a target."""
        return self.aim is None or self.value <= self.aim


@dataclass(frozen=True)
class Result:
    """The result of one benchmark. `notes` are lines printed below the tables."""

    title: str
    rows: Sequence[Compared]
    notes: Sequence[str] = ()
    figures: Sequence[Figure] = ()

    @property
    def missed(self) -> list[str]:
        """Return the names of the figures and comparisons that missed their targets."""
        return [
            *(figure.what for figure in self.figures if not figure.met),
            *(row.what for row in self.rows if not row.met),
        ]


Benchmark = Callable[[Console], Result]


def show(console: Console, result: Result) -> None:
    """Print the tables, the notes and the load average."""
    if result.figures:
        console.print(_figure_table(result))
    if result.rows:
        console.print(_comparison_table(result))
    for note in result.notes:
        console.print(note, highlight=False)
    console.print(f"Load average at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.", style="dim")


def _figure_table(result: Result) -> Table:
    table = Table(title=result.title, title_justify="left")
    for name in ("measured", "median", "range", "target"):
        table.add_column(name, justify="left" if name == "measured" else "right")
    for figure in result.figures:
        aim = "" if figure.aim is None else f"{figure.aim:g} {figure.unit} {_verdict(met=figure.met)}"
        table.add_row(figure.what, f"{figure.value:.1f} {figure.unit}", _range(figure.runs), aim)
    return table


def _comparison_table(result: Result) -> Table:
    table = Table(title=None if result.figures else result.title, title_justify="left")
    for name in ("measured", "ours", "peer", "theirs", "ratio", "target"):
        table.add_column(name, justify="left" if name in ("measured", "peer") else "right")
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

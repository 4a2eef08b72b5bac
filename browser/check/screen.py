"""What the check shows: a list that grows on a terminal, a plain line for each step elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from browser.check.outcome import Mark, StepReport

_STYLES: Final[dict[Mark, str]] = {"ok": "bold green", "warn": "bold yellow", "skip": "dim", "fail": "bold red"}
_SIGNS: Final[dict[Mark, str]] = {"ok": "✓", "warn": "!", "skip": "-", "fail": "✗"}
_NAME_WIDTH = 14
_TIME_WIDTH = 8


class Screen:
    """Shows steps on a console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._is_plain = not console.is_terminal
        self._has_signs = console.encoding.lower().startswith("utf")

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Show, as long as this lasts, that a step is under way."""
        if self._is_plain:
            yield
            return
        with self.console.status(Text(name, style="bold"), spinner="dots" if self._has_signs else "line"):
            yield

    def show(self, report: StepReport) -> None:
        """Show a step that is over, with its hints below it."""
        result = report.result
        took = "" if result.mark == "skip" else f"{report.took_s:.2f} s"
        if self._is_plain:
            self.say(f"{result.mark:4}  {report.name:{_NAME_WIDTH}}{took:>{_TIME_WIDTH}}  {result.text}")
        else:
            row = Table.grid(padding=(0, 2, 0, 0), expand=True)
            row.add_column(width=1)
            row.add_column(width=_NAME_WIDTH)
            row.add_column(width=_TIME_WIDTH, justify="right")
            row.add_column(ratio=1, overflow="fold")
            sign = Text(_SIGNS[result.mark] if self._has_signs else result.mark[0], _STYLES[result.mark])
            # As Text: what a page said must not be read as rich's markup.
            row.add_row(sign, Text(report.name, "bold"), Text(took, "dim"), Text(result.text))
            self.console.print(row)
        for hint in result.hints:
            self.hint(hint)

    def hint(self, text: str) -> None:
        """Show a line that belongs to the step before."""
        if self._is_plain:
            self.say(f"      {text}")
        else:
            self.console.print(Padding(Text(text, overflow="fold"), (0, 0, 0, 3)))

    def say(self, text: str, style: str = "") -> None:
        """Show a line; `style` is one of rich's."""
        self.console.print(Text(text, style), soft_wrap=True)

"""Show the progress of the start: a live list on a terminal, else one line for each change."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

Status = Literal["running", "done", "failed"]
_STYLE = {"done": "bold green", "failed": "bold red"}


@dataclass
class _Row:
    text: str
    status: Status
    started_at: float = field(default_factory=time.monotonic)
    took_s: float | None = None


class Progress:
    """The steps of the start by name; a context manager around the start."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._rows: dict[str, _Row] = {}
        unicode = console.encoding.lower().startswith("utf")
        self._signs = {"done": "✓", "failed": "✗"} if unicode else {"done": "+", "failed": "!"}
        self._spinner = Spinner("dots" if unicode else "line", style="cyan")
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=10)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def step(self, name: str, text: str, status: Status = "running") -> None:
        """Add or update a step; it keeps its row, and its time runs from the first call to the first `done`."""
        row = self._rows.setdefault(name, _Row("", status))
        changed = (row.text, row.status) != (text, status)
        row.text, row.status = text, status
        if status == "done" and row.took_s is None:
            row.took_s = time.monotonic() - row.started_at
        if changed and not self.console.is_terminal:
            self.console.print(f"{name}: {text}", markup=False, highlight=False, soft_wrap=True)

    def _table(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for name, row in self._rows.items():
            sign: RenderableType = self._spinner
            if row.status != "running":
                sign = Text(self._signs[row.status], style=_STYLE[row.status])
            took = "" if row.took_s is None else f"{row.took_s:.1f} s"
            table.add_row(sign, Text(name, style="bold"), Text(row.text), Text(took, style="dim"))
        return table

"""The report of ``python -m coordinator.profiles check``."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.profiles.discover import printable, select_profiles
from coordinator.profiles.hydration import read_keys
from coordinator.profiles.model import ProfileProvider

if TYPE_CHECKING:  # it takes 50 ms, and only people see a table
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """What is known of one profile. `reason` is None if it may be used.

    `cookies` counts those that have not expired, by host; `expires_at` is when the login expires by its
    cookies, in Unix seconds.
    """

    name: str
    cookies: dict[str, int]
    expires_at: float | None
    reason: str | None


@dataclass(frozen=True)
class Report:
    """All profiles of a place in the order of their names, and how many API keys count."""

    location: str
    profiles: tuple[Row, ...]
    keys: int

    @property
    def usable(self) -> int:
        """How many profiles may be used."""
        return sum(row.reason is None for row in self.profiles)

    def as_json(self) -> str:
        """Return the report for machines."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def as_table(self) -> Table:
        """Return the report for people, as a table for rich's console."""
        from rich.markup import escape  # noqa: PLC0415 - only for people, who do not notice its 50 ms
        from rich.table import Table  # noqa: PLC0415

        table = Table(title=escape(self.location))
        for name, kept_whole in (("profile", False), ("site cookies", False), ("earliest expiry", True)):
            table.add_column(name, no_wrap=kept_whole, overflow="fold")
        table.add_column("verdict")
        keys = "no API keys: the API would be open"
        if self.keys:
            keys = "1 API key" if self.keys == 1 else f"{self.keys} API keys"
        table.caption = f"{self.usable} of {len(self.profiles)} usable, {keys}"
        for row in self.profiles:
            sites = "\n".join(f"{site} {count}" for site, count in row.cookies.items())
            verdict = "[red]" + escape(row.reason) if row.reason else "[green]ok"
            expiry = f"{datetime.fromtimestamp(row.expires_at, UTC):%Y-%m-%d %H:%M} UTC" if row.expires_at else "-"
            table.add_row(escape(row.name), escape(sites) or "-", expiry, verdict)
        return table


def check(provider: ProfileProvider, operator_key_file: Path | None) -> Report:
    """Validate profiles and keys at their place, without writing anything. Raises TabfleetError."""
    now = time.time()
    examined = provider.inspect()
    reasons = {item.name: item.reason for item in select_profiles(examined, now).rejected}
    rows = []
    for item in examined:
        name = printable(item.file_name)
        cookies = item.state.live_cookies(now) if item.state else {}
        expires_at = item.state.expires_at(now) if item.state else None
        rows.append(Row(name, cookies, expires_at, reasons.get(name)))
    held = None if operator_key_file else provider.inspect_keys()
    keys = read_keys(operator_key_file, None)[1] if held is None else held
    return Report(provider.location, tuple(rows), len(keys))

"""Files of lines that another process still appends to: its last line may be there in part only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def whole_lines(path: Path, *, since_bytes: int = 0) -> list[str]:
    """Return its lines from this position on, without their ends; none if it is not there.

    A last line that has no end yet is left out: more of it is to come.
    """
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(since_bytes)
        lines = file.read().decode("utf-8", errors="replace").split("\n")
    return lines[:-1]


def json_lines(path: Path, *, since_bytes: int = 0) -> list[dict[str, Any]]:
    """Return the objects in its whole lines; other text is left out."""
    return [json.loads(line) for line in whole_lines(path, since_bytes=since_bytes) if line.startswith("{")]

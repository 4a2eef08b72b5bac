"""Files of JSON lines that another process still writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in it, other text left out; none if it is not there. A line that has no end yet is not read."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    return [json.loads(line) for line in whole.split("\n") if line.startswith("{")]

"""A value of a page as text for one line."""

from __future__ import annotations

import json
from typing import Any


def plain(value: Any, limit: int = 160) -> str:
    """Return a value as text for one line: at most `limit` characters, none of them a control character."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        text = "JSON that is nested too deep"
    text = "".join(character if character.isprintable() else "␤" if character == "\n" else " " for character in text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"

"""Renders sources with Python-Markdown, in the environment that scripts/markdown-corpus makes; prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import markdown  # type: ignore[import-untyped]  # not in the project's own environment

EXTENSIONS = {
    "python-markdown": ["fenced_code", "tables", "footnotes"],
    "pygments": ["fenced_code", "codehilite"],
    "pygments-numbers": ["fenced_code", "codehilite"],
}
NAMES = {
    "python-markdown": ["headings", "code", "tables", "footnotes", "quotes"],
    "pygments": ["code"],
    "pygments-numbers": ["code"],
}

rendered = {
    renderer: {
        name: markdown.markdown(
            (Path(sys.argv[1]) / f"{name}.md").read_text(),
            extensions=extensions,
            extension_configs={"codehilite": {"linenums": True}} if renderer == "pygments-numbers" else {},
        )
        for name in NAMES[renderer]
    }
    for renderer, extensions in EXTENSIONS.items()
}
sys.stdout.write(json.dumps(rendered))

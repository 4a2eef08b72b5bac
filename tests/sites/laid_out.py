"""Markdown compared by what it means."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt

_MARKDOWN = MarkdownIt("commonmark").enable("table")


def laid_out(markdown: str) -> str:
    """Return what Markdown is laid out as, however its lines are broken."""
    return re.sub(r"(?:<br />|\s)+", " ", _MARKDOWN.render(markdown))

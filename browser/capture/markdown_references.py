"""Links whose addresses come after them: passed on as they were written, and defined at the answer's end.

`[the docs][1]` is text until a line `[1]: http://...` makes a link of it
(https://spec.commonmark.org/0.31.2/#reference-link). A renderer keeps no definitions: what was passed on as text goes
on as what it was, and gets one.
"""

from __future__ import annotations

import re
from os.path import commonprefix

_TARGET = re.compile(r'\(((?:<[^<>]*>|(?:[^\s()]|\([^\s()]*\))+)(?: "(?:\\.|[^"\\])*")?)\)')
_LABEL = re.compile(r"\[([^\[\]]*)\]")


def with_references(passed: str, line: str, definitions: dict[str, str], *, is_last: bool) -> str:
    """Return a line with its links as references where they were passed on so, and note what defines these.

    Of the last line that was passed on, more may come.
    """
    at, end = 0, len(passed) + (not is_last)
    while (at := at + len(commonprefix([passed[at:], line[at:]]))) < end:  # noqa: RUF071 - of texts
        target = _TARGET.match(line, at)
        text = _before(line, at)
        if target is None or text is None:
            break
        label = _LABEL.match(passed, at)
        definitions[(label and label[1]) or text] = target[1]
        written = label[0] if label else ""
        line = line[:at] + written + line[target.end() :]
        at += len(written)
    return line


def defined(markdown: str, definitions: dict[str, str]) -> str:
    """Return an answer with its definitions, which end it."""
    lines = "\n".join(f"[{label}]: {target}" for label, target in definitions.items())
    return f"{markdown}\n\n{lines}" if lines else markdown


def _before(line: str, end: int) -> str | None:
    """Return what stands in the square brackets that end at a place; None if none do."""
    depth = 0
    for at in range(end - 1, -1, -1):
        depth += {"]": 1, "[": -1}.get(line[at], 0)
        if depth == 0:
            return line[at + 1 : end - 1] if line[at] == "[" else None
    return None

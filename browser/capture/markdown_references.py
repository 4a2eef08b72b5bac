"""Links whose addresses come after them: passed on as they were written, and defined at the answer's end.

`[the docs][1]` is text until a line `[1]: http://...` makes a link of it
(https://spec.commonmark.org/0.31.2/#reference-link). A renderer keeps no definitions: what was passed on as text goes
on as what it was, and gets one.
"""

from __future__ import annotations

import re
from os.path import commonprefix

_TARGET = re.compile(r'\(((?:<[^<>]*>|(?:[^\s()]|\([^\s()]*\))+)(?: "(?:\\.|[^"\\])*")?)\)')
_LINK = re.compile(rf"\]{_TARGET.pattern}")
_LABEL = re.compile(r"\[([^\[\]]*)\]")


def with_references(passed: str, line: str, definitions: dict[str, str]) -> str:
    """Return a line with its links as references where they were passed on so, and note what defines these.

    Of a link with an address of its own, the text is not passed on without it: what ends in brackets is a reference.
    """
    at = 0
    while (at := at + len(commonprefix([passed[at:], line[at:]]))) <= len(passed):  # noqa: RUF071 - of texts
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


def settled(steady: str, before: str) -> str:
    """Return steady text up to the first link whose address may still be written, in a definition that shows nowhere.

    `before` is the steady text of the look before this one. Once more text has come, the address that a link had then
    is whole.
    """
    same = len(commonprefix([before, steady])) if len(steady) > len(before) else 0  # noqa: RUF071 - of texts
    for match in _LINK.finditer(steady):
        if match.end() > same:
            return steady[: match.start()]
    return steady


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

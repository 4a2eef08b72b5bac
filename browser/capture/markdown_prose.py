"""Characters in an answer's words that Markdown may read as marks: escaped, and waited for while text still comes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bs4 import Tag
from bs4.element import NavigableString

from browser.capture.markdown_html import runs

ELEMENT = "\ufffc"
"""Stands for an element in the text of inline content: no space, and no letter."""
MARK = "\ufdd0"
"""What stands in the HTML where its steady part ends: a code point that no text has (Unicode 16.0, section 23.7)."""
LITERAL = frozenset({"code", "kbd", "samp", "x-tex", "x-note-ref"})
"""Elements whose text is no prose."""

# Marks whatever comes after them: a code span's, a tag's, an entity's, an escape's (a line break's, too) and a link's.
_MARKS = re.compile(r"`|<(?=[A-Za-z/!?])|&(?=#?\w+;)|\\(?=[!-/:-@\[-`{-~\n])|\[(?=[^\[\]]*\]\()")
# Marks at a line's beginning: a list's, a heading's, a quote's, a fence's, and the line below a heading.
_LINE = re.compile(r"^[ \t]*([-+*](?=\s|$)|#{1,6}(?=\s|$)|>|~{3}|=+[ \t]*$|-{2,}[ \t]*$)", re.MULTILINE)
_NUMBER = re.compile(r"\s*\d{1,9}([.)])(?=\s|$)")
_EMPHASIS = re.compile(r"\*+|_+|~~")
_MAY_OPEN = re.compile(r"[*_~]+|`|\$(?=\S)|<(?=[A-Za-z/!?])|[\[(\])]")
_LABEL = re.compile(r"\[[^\[\]]*\]")
_PAIRS = {"]": "[", ")": "("}


def escape_prose(container: Tag) -> None:
    """Put a backslash before each mark in the words of an element, in place.

    MARK is no text: what stands beside it is escaped as it is without it. Nor is white space at the end, which
    renderers write before a list within an item, and not any more once that item's text is a paragraph.
    """
    for run in runs(container):
        strings = [string for node in run for string in flat(node)]
        positions = _marks("".join(map(str, strings)).replace(MARK, "").rstrip())
        at = 0
        for string in strings:
            words, is_cut, rest = str(string).partition(MARK)
            middle, end = at + len(words), at + len(words) + len(rest)
            if isinstance(string, NavigableString):
                first = _with_backslashes(words, [mark - at for mark in positions if at <= mark < middle])
                second = _with_backslashes(rest, [mark - middle for mark in positions if middle <= mark < end])
                string.replace_with(first + is_cut + second)
            at = end


def flat(node: Tag | NavigableString) -> list[NavigableString | str]:
    """Return the texts in inline content, and what stands for the marks of its elements and for what is no prose."""
    if isinstance(node, NavigableString):
        return [node]
    if node.name == "br":
        return ["\n"]
    if node.name in LITERAL or not node.contents:
        return [ELEMENT]
    inside = [part for child in node.children if isinstance(child, Tag | NavigableString) for part in flat(child)]
    return [ELEMENT, *inside, ELEMENT]


def _with_backslashes(text: str, positions: Iterable[int]) -> str:
    for position in reversed(list(positions)):
        text = f"{text[:position]}\\{text[position:]}"
    return text


def _marks(text: str) -> list[int]:
    """Return the positions in inline content of what Markdown would read as marks."""
    positions = {match.start() for match in _MARKS.finditer(text)}
    positions |= {match.start(1) for match in _LINE.finditer(text)}
    if number := _NUMBER.match(text):
        positions.add(number.start(1))
    first = _first_emphasis(text)
    for marks in _EMPHASIS.finditer(text, first):
        if _can_open(text, marks) or _can_close(text, marks):
            positions |= set(range(*marks.span()))
    return sorted(positions)


def _first_emphasis(text: str) -> int:
    """Return where the first mark stands that begins what a later one ends; else the text's end."""
    opened: dict[str, int] = {}
    first = len(text)
    for marks in _EMPHASIS.finditer(text):
        kind = marks[0][0]
        if kind in opened and _can_close(text, marks):
            first = min(first, opened[kind])
        if _can_open(text, marks):
            opened.setdefault(kind, marks.start())
    return first


def _can_open(text: str, marks: re.Match[str]) -> bool:
    after, before = text[marks.end() : marks.end() + 1], text[: marks.start()][-1:]
    return bool(after.strip()) and not (marks[0][0] == "_" and before.isalnum())


def _can_close(text: str, marks: re.Match[str]) -> bool:
    after, before = text[marks.end() : marks.end() + 1], text[: marks.start()][-1:]
    return bool(before.strip()) and not (marks[0][0] == "_" and after.isalnum())


def first_open(text: str) -> int | None:
    r"""Return where something begins that later text may complete: emphasis, code, a link, a tag or a formula.

    Brackets count as open until they are closed, because of formulas in \(...\) and \[...\] whose backslashes
    renderers drop. None if there is nothing of the kind.
    """
    first: list[int] = []
    brackets: list[tuple[str, int]] = []
    for match in _MAY_OPEN.finditer(text):
        mark, at = match[0], match.start()
        if mark in "[(":
            brackets.append((mark, at))
        elif mark in _PAIRS:
            if brackets and brackets[-1][0] == _PAIRS[mark]:
                opened = brackets.pop()
                # A link's text, or a definition's, is no text yet as long as its address comes, or a reference's label.
                has_label = _LABEL.match(text, match.end())
                if mark == "]" and text[match.end() : match.end() + 1] in ("", "(", "[", ":") and not has_label:
                    brackets.append(opened)
        elif mark == "<":
            if ">" not in text[at:]:
                first.append(at)
        elif mark[0] not in "*_~" or _can_open(text, match):
            first.append(at)
    return min([*first, *(at for _, at in brackets)], default=None)

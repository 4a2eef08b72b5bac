"""The part of an answer's HTML that will not change any more while the answer is still being written.

What a renderer makes of the beginning of a text is not always the beginning of what it makes of the whole: `**bo`
becomes bold, `| a | b |` a table, and "1" a list. What may change so is waited for.
"""

from __future__ import annotations

import re

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString

from browser.capture.markdown_html import Group, groups
from browser.capture.markdown_prose import ELEMENT, LITERAL, MARK, first_open, flat
from browser.capture.markdown_references import defined, with_references

_NESTING_LANGUAGES = frozenset({"", "text", "txt", "markdown", "md", "mdx", "rst", "quarto"})
"""Languages of code blocks that hold code blocks, whose fence is as long as it must be: "" where none is noted."""
_OPEN_FORMULA = re.compile(r"\[\s(?!.*\])", re.DOTALL)
_ITEM = re.compile(r"(?:> ?)*(?:\s*(?:[-*+]|\d{1,9}[.)])\s|\s{2,}\S)")
_NOTE_REFERENCE = re.compile(r"\[\^([^\[\]\s]+)\]")
_NOTE_LINK = re.compile(r"^\^(\S+)$")
_HEADING = re.compile(r"((?:> |[ ]|[-*+] |\d{1,9}[.)] )*)(#{1,2}) (.+)")


def cut_from(soup: BeautifulSoup, pattern: re.Pattern[str]) -> None:
    """Take out what comes from the first match of a pattern on, in the text of all elements together."""
    strings = list(soup.find_all(string=True))
    if (match := pattern.search("".join(strings))) is None:
        return
    at = match.start()
    for string in strings:
        if at < len(string):
            _cut(string, at)
            return
        at -= len(string)


def _cut(string: NavigableString, at: int) -> None:
    for element in list(string.next_elements):
        element.extract()
    string.replace_with(NavigableString(string[:at]))


def cut_from_open_note(soup: BeautifulSoup) -> None:
    """Take out what comes from the first reference on whose footnote has not come yet, and may get another label.

    Until then it is text. Some renderers number footnotes in the order of their references, whatever their labels are:
    only one that has its own number already stays as it is.
    """
    numbered: set[str] = set()
    texts: set[str] = set()
    for node in soup.descendants:
        if isinstance(node, Tag):
            if node.name == "x-note-ref":
                numbered.add(node.get_text())
        elif isinstance(node, NavigableString) and not node.find_parent(["pre", *LITERAL]):
            # Without footnotes, one that is an address is a link's.
            is_link = node.parent is not None and node.parent.name == "a"
            for match in (_NOTE_LINK if is_link else _NOTE_REFERENCE).finditer(node):
                is_new = match[1] not in texts
                texts.add(match[1])
                if is_new and match[1] != str(len(numbered) + len(texts)):
                    _cut(node, match.start())
                    return


def mark_steady(soup: BeautifulSoup) -> bool:
    """Put MARK where the steady part ends. False if there is none."""
    return _mark_in(soup)


def _mark_in(container: Tag) -> bool:
    shown = [group for group in groups(container) if _is_shown(group)]
    # Footnotes stand behind the last block, whatever is still to come of that.
    *before, last = [group for group in shown if not _is_notes(group)] or [[]]
    for index, group in enumerate(before):
        if _opens_formula(group):
            before, last = before[:index], []
            break
    return _mark_in_last(last) or bool(before and _mark_end(before[-1]))


def _is_shown(group: Group) -> bool:
    nodes = group if isinstance(group, list) else [group]
    return any(
        bool(node.strip()) if isinstance(node, NavigableString) else bool(node.get_text().strip() or _is_sign(node))
        for node in nodes
    )


def _is_notes(group: Group) -> bool:
    if isinstance(group, list) or group.name not in ("x-note", "section", "div"):
        return False
    inside = groups(group) if group.name != "x-note" else []
    return group.name == "x-note" or all(map(_is_notes, filter(_is_shown, inside)))


def _is_sign(element: Tag) -> bool:
    """Tell whether an element without text says something."""
    signs = ["hr", "img", "input", "video"]
    return element.name in signs or element.find(signs) is not None


def _opens_formula(group: Group) -> bool:
    """Tell whether a block of text begins a formula that a later block ends."""
    if isinstance(group, Tag) and group.name != "p":
        return False
    text = "".join(node.get_text() for node in group).strip()
    return text.count("$$") % 2 == 1 or _OPEN_FORMULA.match(text) is not None


def _mark_in_last(group: Group) -> bool:
    if isinstance(group, list):
        return _mark_in_run(group)
    match group.name:
        case "pre":
            return _mark_in_code(group)
        case "table":
            return _mark_in_table(group)
        case "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "hr" | "summary" | "x-tex-block" | "x-note" | "dl":
            return False
        case _:
            return _mark_in(group)


def _mark_end(group: Group) -> bool:
    """Put the mark behind a block that is complete."""
    if isinstance(group, list):
        group[-1].insert_after(NavigableString(MARK))
    elif group.name in ("li", "p"):
        group.append(NavigableString(MARK))
    else:
        block = Tag(name="div")
        block.string = MARK
        group.insert_after(block)
    return True


def _mark_in_run(run: list[Tag | NavigableString]) -> bool:
    """Put the mark behind the last word in inline content that is followed by another one."""
    parts: list[NavigableString | Tag | str] = []
    opened: list[int] = []
    text = ""
    for node in run:
        if isinstance(node, NavigableString):
            part = str(node)
        elif node.name == "br":
            part = "\n"
        else:
            part = ELEMENT
            if node.name not in LITERAL and first_open("".join(map(str, flat(node)))) is not None:
                opened.append(len(text))
        parts.append(node)
        text += part
    first = first_open(text)
    ends = [len(text.rstrip()), *opened, *([] if first is None else [first]), _possible_table(text)]
    steady = text[: min(ends)]
    words = steady[: len(steady) - len(steady.split()[-1])] if steady.split() and not steady[-1].isspace() else steady
    return bool(words.strip()) and _put_mark(run, len(words.rstrip()))


def _possible_table(text: str) -> int:
    """Return where the lines begin at a text's end that may be a table's head; else the text's end."""
    *before, last = text.rstrip().split("\n")
    head = before[-1] if before else ""
    if "|" in head:
        return len("\n".join(before[:-1]))
    return len("\n".join(before)) if "|" in last else len(text)


def _put_mark(run: list[Tag | NavigableString], offset: int) -> bool:
    for node in run:
        length = len(node) if isinstance(node, NavigableString) else 1
        if offset < length or (offset == length and isinstance(node, NavigableString)):
            if isinstance(node, NavigableString):
                node.replace_with(NavigableString(f"{node[:offset]}{MARK}{node[offset:]}"))
            else:
                node.insert_before(NavigableString(MARK))
            return True
        offset -= length
    return False


def _mark_in_code(block: Tag) -> bool:
    """Put the mark behind the last line of code that is complete."""
    code = block.get_text()
    end = code.removesuffix("\n").rfind("\n")
    if end < 0 or block.get("data-language") in _NESTING_LANGUAGES:
        return False
    block.string = f"{code[:end]}{MARK}{code[end:]}"
    return True


def _mark_in_table(table: Tag) -> bool:
    """Put the mark behind the last row of a table that is complete; its head is, once a row follows it."""
    rows = table.find_all("tr")
    cells = rows[-2].find_all(["td", "th"]) if len(rows) > 1 else []
    if not cells:
        return False
    cells[-1].append(NavigableString(MARK))
    return True


def continuing(passed_on: str, markdown: str, *, complete: bool = False) -> str | None:
    """Return an answer's Markdown in a form that continues what was passed on of it; None if there is none.

    Three things turn out later than the text before them, and can be written in two ways: that a list has blank lines
    between its items, which may be between some only, that a paragraph is a heading, by the line below it, and where
    a reference leads to. `complete`: it is all of the answer, and ends in what its references need.
    """
    if markdown.startswith(passed_on):
        return markdown
    definitions: dict[str, str] = {}
    lines = markdown.split("\n")
    passed_lines = passed_on.split("\n")
    for number, passed in enumerate(passed_lines):
        is_last = number == len(passed_lines) - 1
        is_blank = number + 1 < len(lines) and not lines[number].strip(" >")
        if passed.strip(" >") and is_blank and _ITEM.match(lines[number + 1]):
            del lines[number]
        if number == len(lines):
            return None
        if heading := _HEADING.fullmatch(lines[number]):
            written = _underlined(heading, passed_lines[number:], definitions) or [heading[0]]
            # What comes last may have been cut off within the heading.
            is_open = not complete and number == len(lines) - 1 and len(written) > len(passed_lines) - number
            lines[number : number + 1] = written[:-1] if is_open else written
        lines[number] = with_references(passed, lines[number], definitions)
        if not (lines[number].startswith(passed) if is_last else lines[number] == passed):
            return None
    return defined("\n".join(lines), definitions if complete else {})


def _underlined(heading: re.Match[str], passed_lines: list[str], definitions: dict[str, str]) -> list[str] | None:
    """Return a heading as text with a line below it, over as many lines as were passed on of it; None if it is not so.

    Only in that form may a heading have line breaks. `definitions` gets what its references need.
    """
    first = heading[1]
    others = re.sub(r"[^> ]", " ", first)  # the mark of a list's item is at its first line only
    prefixes = [first, *[others] * (len(passed_lines) - 1)]
    texts = [line.removeprefix(prefix) for line, prefix in zip(passed_lines, prefixes, strict=True)]
    used: dict[str, str] = {}
    rest = with_references(" ".join(text.rstrip(" ") for text in texts), heading[3], used)
    written: list[str] = []
    for line, prefix, text in zip(passed_lines, prefixes, texts, strict=True):
        words = text.rstrip(" ")  # spaces at the end are a line break
        if not rest:
            break
        if not line.startswith(prefix):
            return None
        if len(written) == len(passed_lines) - 1 and rest.startswith(text):
            written.append(prefix + rest)
            rest = ""
            break
        if rest != words and not rest.startswith(f"{words} "):
            return None
        rest = rest[len(words) + 1 :]
        written.append(line)
    underline = others + {"#": "===", "##": "---"}[heading[2]]
    if rest or not underline.startswith("".join(passed_lines[len(written) : len(written) + 1])):
        return None
    definitions |= used
    return [*written, underline]

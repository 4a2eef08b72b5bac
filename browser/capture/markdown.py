"""Markdown from the HTML that a page rendered of an answer's Markdown.

The forms are CommonMark's (https://spec.commonmark.org/0.31.2/), with tables, task lists, strikethrough and footnotes
of GitHub's extensions (https://github.github.com/gfm/), TeX between dollar signs, and tags of HTML where Markdown has
nothing of its own: `details`, `sub` and `sup`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString
from markdownify import MarkdownConverter

from browser.capture.markdown_html import is_block, make_plain
from browser.capture.markdown_prose import MARK, escape_prose
from browser.capture.markdown_steady import cut_from, cut_from_open_note, mark_steady

_SEPARATOR = re.compile(r"^\|(?: --- \|)+$", re.MULTILINE)
_BACKTICKS = re.compile(r"`+")
_FENCE = re.compile(r"^ {0,3}(`{3,})[ \t]*$", re.MULTILINE)
_INLINE_SPACE = re.compile(r"\s")
_ALIGNED = {"left": ":--", "right": "--:", "center": ":-:"}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[^\s<>]*")


def from_html(html: str) -> str:
    """Return the Markdown of an answer's HTML. HTML that is nested too deep for that comes as its bare text."""
    soup = _parsed(html)
    try:  # markdownify calls itself for each level, and a page decides how deep it nests
        make_plain(soup)
        return _converted(soup)
    except RecursionError:
        return _parsed(html).get_text()


def steady_from_html(html: str, hold_from: re.Pattern[str] | None = None) -> str:
    """Return the beginning of an answer's Markdown that will not change while more of the answer is written.

    What comes after the first match of `hold_from` in its words may change, whatever it is.
    """
    soup = _parsed(html)
    try:
        make_plain(soup)
        if hold_from is not None:
            cut_from(soup, hold_from)
        if "[^" in html:
            cut_from_open_note(soup)
        return _converted(soup).partition(MARK)[0].rstrip() if mark_steady(soup) else ""
    except RecursionError:
        return ""


def _parsed(html: str) -> BeautifulSoup:
    # Of space alone the parser would leave one character, which in an editor's line is a part of the code.
    return BeautifulSoup(html, "html.parser", preserve_whitespace_tags={"pre", "textarea", "code", "div", "span"})


def _converted(soup: BeautifulSoup) -> str:
    escape_prose(soup)
    return str(_CONVERTER.convert_soup(soup)).rstrip()


_BREAK = "  \n"


class _Converter(MarkdownConverter):
    """Each rule is named by its element: convert_<element>(the element, its content's Markdown, tags around it)."""

    def escape(self, text: str, parent_tags: set[str]) -> str:
        return text  # escape_prose has done it: what is a mark depends on the text around

    def convert_pre(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        code = el.get_text().removesuffix("\n")
        fence = "`" * max(3, 1 + max(map(len, _FENCE.findall(code)), default=0))
        gap = "\n" if el.parent and el.parent.name == "li" and not _is_loose(el.parent.parent) else "\n\n"
        return f"{gap}{fence}{el.get('data-language', '')}\n{code}\n{fence}{gap}"

    def convert_code(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        code = _INLINE_SPACE.sub(" ", el.get_text())
        if not code:
            return ""
        runs = set(map(len, _BACKTICKS.findall(code)))
        fence = "`" * next(length for length in range(1, len(runs) + 2) if length not in runs)
        is_bare = not runs and (code.isspace() or code.strip() == code)
        return f"{fence}{code}{fence}" if is_bare else f"{fence} {code} {fence}"

    def convert_br(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return _BREAK if parent_tags & {"h1", "h2"} else str(super().convert_br(el, text, parent_tags))  # type: ignore[misc]

    def convert_hN(self, n: int, el: Tag, text: str, parent_tags: set[str]) -> str:  # noqa: N802 - markdownify's name
        text = text.strip()
        if _BREAK not in text or "_inline" in parent_tags:
            return str(super().convert_hN(n, el, text, parent_tags))  # type: ignore[misc]
        # Only a heading with a line below it can have line breaks.
        return "\n\n{}\n{}\n\n".format(re.sub(r"\n\s+", "\n", text), "===" if n == 1 else "---")

    def convert_kbd(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return f"<kbd>{text}</kbd>"

    def convert_a(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        address, shown = str(el.get("href") or ""), el.get_text().replace(MARK, "")
        if not el.get("title") and _SCHEME.fullmatch(shown) and shown in (address, unquote(address)):
            return f"<{text}>" if MARK in text else f"<{shown}>"
        if not address or not text.strip():
            return text
        return f"[{text.strip()}]({_target(el, address)})"

    def convert_img(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return f"![{el.get('alt') or ''}]({_target(el, str(el.get('src') or ''))})"

    def convert_li(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        text = text.strip()
        siblings = el.find_previous_siblings("li")
        number, end = "", ""
        if el.parent and el.parent.name == "ol":
            number = str(int(str(el.parent.get("start", "1"))) + len(siblings))
        # A list right after another one of its kind is one of its own by another mark.
        marks = (".", ")") if number else ("-", "*")
        before = el.parent.find_previous_sibling() if el.parent else None
        is_second = before is not None and el.parent and before.name == el.parent.name
        bullet = f"{number}{marks[bool(is_second)]} "
        if _is_loose(el.parent) and el.find_next_sibling("li"):
            end = "\n"
        return f"{bullet}{_hanging(text, len(bullet))}\n{end}"

    def convert_list(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        made = str(super().convert_list(el, text, parent_tags))  # type: ignore[misc]
        # markdownify ends a list within an item without a line break: words after it would go on with its last one.
        return f"{made}\n\n" if "li" in parent_tags and _has_words_after(el) else made

    convert_ul = convert_list
    convert_ol = convert_list

    def convert_td(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return f" {' '.join(text.split())} ".replace("|", r"\|") + "|" * max(int(str(el.get("colspan", "1"))), 1)

    convert_th = convert_td

    def convert_table(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        first = el.find("tr")
        cells = first.find_all(["th", "td"]) if first else []
        # markdownify knows no alignment: the line below the head is written anew.
        marks = []
        for cell in cells:
            style = re.search(r"text-align:\s*(\w+)", str(cell.get("style", "")))
            marks.append(_ALIGNED.get(style[1] if style else str(cell.get("align", "")), "---"))
        line = f"| {' | '.join(marks)} |"
        return f"\n\n{_SEPARATOR.sub(line, text.strip(), count=1)}\n\n"

    def convert_input(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        if el.get("type") != "checkbox":
            return ""
        after = el.next_sibling
        space = "" if isinstance(after, NavigableString) and after[:1].isspace() else " "
        return f"[{'x' if el.has_attr('checked') else ' '}]{space}"

    def convert_details(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return f"\n\n<details>\n{text.strip()}\n\n</details>\n\n"

    def convert_summary(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return f"<summary>{text.strip()}</summary>\n\n"

    def convert_x_tex(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        mark = "$$" if el.has_attr("display") else "$"
        return f"{mark}{el.get_text()}{mark}"

    def convert_x_tex_block(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return f"\n\n$$\n{el.get_text()}\n$$\n\n"

    def convert_x_note_ref(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return f"[^{el.get_text()}]"

    def convert_x_note(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        return f"\n\n[^{el['label']}]: {_hanging(text.strip(), 4)}\n\n"


def _is_loose(list_of_items: Tag | None) -> bool:
    """Tell whether a list has blank lines between its items: its texts are paragraphs then."""
    items = list_of_items.find_all("li", recursive=False) if list_of_items else []
    return any(item.find("p", recursive=False) for item in items)


def _has_words_after(element: Tag) -> bool:
    """Tell whether inline content comes right after a block."""
    following = next((node for node in element.next_siblings if isinstance(node, Tag) or str(node).strip()), None)
    return following is not None and not (isinstance(following, Tag) and is_block(following))


def _hanging(text: str, spaces: int) -> str:
    """Indent the lines of an item or a note that come after its first, but for empty ones."""
    return re.sub(r"\n(?=[^\n])", "\n" + " " * spaces, text)


def _target(element: Tag, address: str) -> str:
    """Return what stands in the round brackets of a link or an image."""
    if re.search(r"[\s<>]", address) or address.count("(") != address.count(")"):
        address = f"<{address.replace('<', '%3C').replace('>', '%3E')}>"
    title = str(element.get("title") or "").replace('"', r"\"")
    return f'{address} "{title}"' if title else address


_OPTIONS: Mapping[str, Any] = {"heading_style": "ATX", "sub_symbol": "<sub>", "sup_symbol": "<sup>"}
_CONVERTER = _Converter(**_OPTIONS)

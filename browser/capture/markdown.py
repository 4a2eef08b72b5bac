"""Markdown from the HTML that a page rendered of an answer's Markdown.

The forms are CommonMark's (https://spec.commonmark.org/0.31.2/), with tables, task lists and strikethrough of
GitHub's extensions (https://github.github.com/gfm/) and TeX as KaTeX marks it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bs4 import BeautifulSoup, Tag
from markdownify import MarkdownConverter

# What is no text of the answer, such as the button that copies a code block.
_NO_TEXT = "button, script, style, svg, template, noscript, select, textarea, [hidden]"
_LANGUAGE = re.compile(r"^(?:language|lang|highlight-source)-(\S+)$")
_NO_LANGUAGES = ("plaintext", "none", "undefined", "null")
_SEPARATOR = re.compile(r"^\|(?: --- \|)+$", re.MULTILINE)
_BACKTICKS = re.compile(r"`+")
# An asterisk or underscore that would begin or end emphasis: between spaces, or inside a word, it would not.
_EMPHASIS = re.compile(r"(?<!\s)\*|\*(?!\s)|(?<!\w)_(?=\S)|(?<=\S)_(?!\w)")
_MARKUP = re.compile(r"`|<(?=[A-Za-z/!?])|&(?=#?\w+;)")
_NUMBERS = {"colspan": 100, "start": 999_999_999}
"""The largest of each: a page could write millions of columns."""
_DRAWN = ("strong", "em", "del")
_ALIGNED = {"left": ":--", "right": "--:", "center": ":-:"}


def from_html(html: str) -> str:
    """Return the Markdown of an answer's HTML. HTML that is nested too deep for that comes as its bare text."""
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.select(_NO_TEXT):
        element.decompose()
    # markdownify makes numbers of these as they are; int() takes neither thousands of digits nor every digit.
    for attribute, largest in _NUMBERS.items():
        for element in soup.select(f"[{attribute}]"):
            digits = str(element[attribute]).lstrip("0") or "0"
            is_small = digits.isdecimal() and len(digits) < 10  # as CommonMark's lists
            element[attribute] = str(min(int(digits), largest)) if is_small else "1"
    try:  # markdownify calls itself for each level, and a page decides how deep it nests
        return str(_CONVERTER.convert_soup(soup)).rstrip()
    except RecursionError:
        return soup.get_text()


class _Converter(MarkdownConverter):
    """Each rule is named by its element: convert_<element>(the element, its content's Markdown, tags around it)."""

    def escape(self, text: str, parent_tags: set[str]) -> str:
        text = _MARKUP.sub(r"\\\g<0>", text)
        return _EMPHASIS.sub(r"\\\g<0>", text) if len(_EMPHASIS.findall(text)) > 1 else text

    def convert_pre(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        for line_break in el.find_all("br"):
            line_break.replace_with("\n")
        code = el.get_text().removesuffix("\n")
        fence = "`" * max(3, 1 + max(map(len, _BACKTICKS.findall(code)), default=0))
        return f"\n\n{fence}{_language(el)}\n{code}\n{fence}\n\n"

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
        return "[x]" if el.has_attr("checked") else "[ ]"

    def convert_span(self, el: Tag, text: str, parent_tags: set[str]) -> str:
        classes = el.get_attribute_list("class")
        tex = el.find("annotation", attrs={"encoding": "application/x-tex"}) if "katex" in classes else None
        if tex is None:
            # What only a style sheet draws as bold and the like; dom.js marks it, for it is not in the HTML.
            drawn = el.get("data-drawn")
            return str(getattr(self, f"convert_{drawn}")(el, text, parent_tags)) if drawn in _DRAWN else text
        mark = "$$" if el.find_parent(class_="katex-display") else "$"
        return f"{mark}{tex.get_text().strip()}{mark}"


def _language(block: Tag) -> str:
    """Return the language of a code block, as highlighters note it on it, in it or just around it."""
    around = [block.parent] if block.parent else []
    for element in [*block.find_all("code", limit=1), block, *around]:
        for name in ("data-language", "data-lang"):
            if found := element.get(name):
                return _known(str(found))
        for name in element.get_attribute_list("class"):
            if match := _LANGUAGE.match(name or ""):
                return _known(match[1])
    return ""


def _known(language: str) -> str:
    return "" if language in _NO_LANGUAGES else language


_OPTIONS: Mapping[str, Any] = {"autolinks": False, "bullets": "-", "heading_style": "ATX"}
_CONVERTER = _Converter(**_OPTIONS)

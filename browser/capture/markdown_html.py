"""An answer's HTML made plain: what renderers draw in ways of their own, as the elements that Markdown knows.

What is dealt with here, each as its package writes it: KaTeX and MathJax, CodeMirror and Monaco, line numbers of
highlighters, footnotes of markdown-it, remark and Python-Markdown, comments of frameworks, words in spans.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import takewhile

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString, PreformattedString

_OWN_BLOCKS = frozenset({"details", "summary", "x-note", "x-tex-block"})
BLOCKS = _OWN_BLOCKS | {
    *("address", "article", "aside", "blockquote", "dd", "div", "dl", "dt", "fieldset", "figcaption", "figure"),
    *("footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section"),
    *("table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
}

# What is no text of the answer, such as the button that copies a code block, or the numbers of a code block's lines.
_NO_TEXT = frozenset({"button", "script", "style", "svg", "template", "noscript", "select", "textarea"})
_NO_TEXT_CLASSES = frozenset(
    {"MathJax_Preview", "linenumber", "react-syntax-highlighter-line-number", "line-numbers-rows", "linenos", "lineno"}
)
_LANGUAGE = re.compile(r"^(?:language|lang|highlight-source)-(\S+)$")
_NO_LANGUAGES = ("plaintext", "none", "undefined", "null")
_NUMBERS = {"colspan": 100, "start": 999_999_999}
"""The largest of each: a page could write millions of columns."""
_DRAWN = ("strong", "em", "del")
_NOTE = re.compile(r"^#?(?:user-content-)?fn[-:]?(?!ref)(.+)$")
_NOTE_BACK = re.compile(r"^#(?:user-content-)?fnref")
_TOP = re.compile(r"top:\s*(-?[\d.]+)")


def make_plain(soup: BeautifulSoup) -> None:
    """Replace in place what only a page's script or style sheet understands."""
    for comment in soup.find_all(string=lambda string: isinstance(string, PreformattedString)):
        comment.extract()
    # Selectors cost much more than one look at all elements: an answer that is being written is read again and again.
    elements = soup.find_all(True)
    kinds = {element.name for element in elements}.union(*map(_classes, elements))
    for marks, make in _PLAIN.items():
        if kinds & marks:
            make(soup)
    for element in elements:
        if element.name in _NO_TEXT or "hidden" in element.attrs or _NO_TEXT_CLASSES & _classes(element):
            element.extract()
        else:
            _bound_numbers(element)
    for block in soup.find_all("pre"):
        _plain_code(block)
    if any("href" in link.attrs and str(link["href"]).startswith("#") for link in soup.find_all("a")):
        _plain_notes(soup)
        _plain_note_references(soup)
    # What only a style sheet draws as bold and the like is marked by dom.js; other spans are of no account, and words
    # that come one in each are one text.
    for span in soup.find_all(["span", "font"]):
        if span.get("data-drawn") in _DRAWN:
            span.name = str(span["data-drawn"])
        else:
            span.unwrap()
    _join_texts(soup)


def _join_texts(soup: BeautifulSoup) -> None:
    """Make one text of those that stand together, and none of space beside blocks that markdownify does not know.

    soup.smooth() takes seconds for a page that nests deep.
    """
    for first in soup.find_all(string=True):
        string = first
        following = list(takewhile(lambda node: isinstance(node, NavigableString), string.next_siblings))
        if following and not isinstance(string.previous_sibling, NavigableString):
            for node in following:
                node.extract()
            whole = NavigableString("".join(map(str, [string, *following])))
            string.replace_with(whole)
            string = whole
        beside = (string.previous_sibling, string.next_sibling)
        if not string.strip() and any(isinstance(node, Tag) and node.name in _OWN_BLOCKS for node in beside):
            string.extract()


def _classes(element: Tag) -> frozenset[str]:
    return frozenset(element.attrs.get("class", ()))


def _bound_numbers(element: Tag) -> None:
    """Bound what markdownify makes numbers of as it is: int() takes neither thousands of digits nor every digit."""
    for attribute, largest in _NUMBERS.items():
        if attribute in element.attrs:
            digits = str(element[attribute]).lstrip("0") or "0"
            is_small = digits.isdecimal() and len(digits) < 10  # as CommonMark's lists
            element[attribute] = str(min(int(digits), largest)) if is_small else "1"


def _plain_formulas(soup: BeautifulSoup) -> None:
    """Put TeX in the place of what KaTeX, MathJax 2 and 4, and MathML with its source show."""
    scripts = soup.select("script[type^='math/tex']")
    if scripts:
        for shown in soup.select(".MathJax, .MathJax_Display"):
            shown.extract()
    for script in scripts:
        _put_formula(soup, script, script.get_text(), is_display="mode=display" in str(script["type"]))
    for formula in soup.select(".katex, mjx-container, math"):
        if formula.find_parent(class_="katex") or formula.find_parent("mjx-container"):
            continue
        source = formula.find("annotation", attrs={"encoding": "application/x-tex"})
        latex = formula.select_one("[data-latex]")
        if source is None and latex is None:
            continue
        tex = source.get_text() if source else str(latex["data-latex"]) if latex else ""
        around = formula.find_parent(class_="katex-display")
        is_display = bool(around) or formula.get("display") in ("true", "block")
        _put_formula(soup, around or formula, tex, is_display=is_display)


def _put_formula(soup: BeautifulSoup, shown: Tag, tex: str, *, is_display: bool) -> None:
    formula = soup.new_tag("x-tex", string=tex.strip())
    place = shown
    if is_display:
        formula["display"] = ""
        if shown.parent and shown.parent.name == "p":
            beside = (*shown.previous_siblings, *shown.next_siblings)
            place = shown if any(str(sibling).strip() for sibling in beside) else shown.parent
        if place.parent and place.parent.name not in ("p", "td", "th", "span", "a", "strong", "em"):
            formula.name = "x-tex-block"
    place.replace_with(formula)


def _plain_editors(soup: BeautifulSoup) -> None:
    """Make code blocks of editors' lines: CodeMirror 5 and 6, and Monaco, whose lines stand in any order."""
    for editor in soup.select(".cm-editor, .CodeMirror, .monaco-editor"):
        lines = editor.select(".cm-line, .CodeMirror-line, .view-line")
        if "monaco-editor" in editor.get_attribute_list("class"):
            lines.sort(key=_top)
        named = editor.select_one("[data-language], [data-mode-id]")
        code = soup.new_tag("pre")
        if named is not None:
            code["data-language"] = str(named.get("data-language") or named.get("data-mode-id"))
        text = "\n".join(line.get_text() for line in lines)
        # An empty line of CodeMirror holds a space without width, and Monaco's spaces do not break.
        code.string = text.replace("\u200b", "").replace("\u00a0", " ")
        editor.replace_with(code)


def _top(line: Tag) -> float:
    found = _TOP.search(str(line.get("style", "")))
    return float(found[1]) if found else 0.0


def _plain_tables_of_lines(soup: BeautifulSoup) -> None:
    """Leave the code of Pygments' tables, which have the numbers of the lines beside it."""
    for table in soup.select("table.highlighttable, table.codehilitetable"):
        if blocks := table.find_all("pre"):
            table.replace_with(blocks[-1])


_PLAIN: dict[frozenset[str], Callable[[BeautifulSoup], None]] = {
    frozenset({"katex", "mjx-container", "math", "script"}): _plain_formulas,
    frozenset({"cm-editor", "CodeMirror", "monaco-editor"}): _plain_editors,
    frozenset({"highlighttable", "codehilitetable"}): _plain_tables_of_lines,
}
"""What is done where an answer has an element or a class of one of these names."""


def _plain_code(block: Tag) -> None:
    """Leave a code block its text and its language."""
    block["data-language"] = _language(block)
    for line_break in block.find_all("br"):
        line_break.replace_with("\n")
    block.string = block.get_text()


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


def _plain_notes(soup: BeautifulSoup) -> None:
    """Make blocks of footnotes, with the label that the renderer kept: often a number."""
    for notes in soup.select(".footnotes, .footnote"):
        for line in soup.select(".footnotes-sep"):
            line.extract()
        items = [(item, _NOTE.match(str(item["id"]))) for item in notes.select("li[id]")]
        for item, label in items:
            if label:
                item.name, item["label"] = "x-note", label[1]
        if any(label for _, label in items):
            for heading in notes.find_all(["h2", "hr"]):
                heading.extract()
            for list_of_notes in notes.find_all("ol"):
                list_of_notes.unwrap()


def _plain_note_references(soup: BeautifulSoup) -> None:
    """Make elements of what refers to footnotes, and drop what refers back."""
    for link in soup.select("a[href^='#']"):
        if _NOTE_BACK.match(str(link["href"])):
            before = link.previous_sibling
            link.extract()
            if isinstance(before, NavigableString):
                before.replace_with(before.rstrip())
        elif label := _NOTE.match(str(link["href"])):
            around = link.parent if link.parent and link.parent.name == "sup" else link
            reference = soup.new_tag("x-note-ref", string=label[1])
            around.replace_with(reference)


Group = Tag | list[Tag | NavigableString]
"""A block, or inline content that stands together."""


def groups(container: Tag) -> list[Group]:
    """Return the content of an element as blocks and as the inline content between them, in order."""
    found: list[Group] = []
    for node in container.children:
        if isinstance(node, Tag) and is_block(node):
            found.append(node)
        elif isinstance(node, Tag | NavigableString):
            if found and isinstance(found[-1], list):
                found[-1].append(node)
            else:
                found.append([node])
    return found


def is_block(element: Tag) -> bool:
    """Tell whether an element is a block, or an inline one that a page has put around blocks."""
    return element.name in BLOCKS or any(isinstance(node, Tag) and node.name in BLOCKS for node in element.descendants)


def runs(container: Tag) -> Iterator[list[Tag | NavigableString]]:
    """Yield all inline content in an element, each part that stands together as one list; no code blocks."""
    for group in groups(container):
        if isinstance(group, list):
            yield group
        elif group.name not in ("pre", "x-tex-block"):
            yield from runs(group)

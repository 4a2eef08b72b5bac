"""The selectors of a site file: CSS that finds across open shadow roots, as Playwright's own does, and into frames.

`iframe.chat >>> #send` finds #send in the document of the first frame that `iframe.chat` finds. Steps, and the input,
give theirs to Playwright, whose other forms work there too. All other keys are looked up by dom.js: CSS alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import TypedDict

from contract.errors import TabfleetError

FRAME = ">>>"

_TOKEN = re.compile(
    r"""
    (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<escape>\\.)
    |(?P<quote>["'])
    |(?P<open>[(\[])
    |(?P<close>[)\]])
    |(?P<frame>\s*>>>\s*)
    |(?P<chain>\s*>>\s*)
    |(?P<comma>\s*,\s*)
    |(?P<combinator>\s*[>+~]\s*|\s+)
    |(?P<pseudo>::?[a-zA-Z-]+)
    |(?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSES = {")": "(", "]": "["}
_BETWEEN = {"chain", "comma", "combinator"}
_ENGINE = re.compile(r"""\s*(?:[\w:*+-]+\s*=|//|\(+//|\.\.|["'])""")
"""How a selector of Playwright's other engines begins: `text=`, `xpath=`, `//`, a quote."""
_PLAYWRIGHT_PSEUDO = frozenset(
    {
        ":above",
        ":below",
        ":has-text",
        ":left-of",
        ":light",
        ":near",
        ":nth-match",
        ":right-of",
        ":text",
        ":text-is",
        ":text-matches",
        ":visible",
    }
)
_JQUERY_PSEUDO = frozenset({":contains", ":eq", ":even", ":first", ":gt", ":hidden", ":last", ":lt", ":odd"})


class Css(TypedDict):
    """A CSS selector as dom.js takes it.

    Each of `chains` is one of the alternatives between commas, from the element outwards: pairs of a compound selector
    and of the combinator before it, which is empty for the outermost.
    """

    css: str
    chains: list[list[tuple[str, str]]]


Path = list[Css]
"""What finds an element from the page inwards: a frame each, and last the element."""


class PlaywrightOnly(TabfleetError, ValueError):
    """A selector is one of Playwright's that is no CSS."""


@cache
def page_path(selector: str) -> Path:
    """Return what dom.js is to look for. Raises PlaywrightOnly, or ValueError where it is no selector at all."""
    return [_css(part) for part in frame_parts(selector)]


def path_or_none(selector: str | None) -> Path | None:
    """Return what dom.js is to look for, or None where there is nothing that it could."""
    try:
        return page_path(selector) if selector else None
    except ValueError:
        return None


def frame_parts(selector: str) -> list[str]:
    """Return the selectors of the frames, the outermost first, and that of the element. Raises ValueError."""
    parts, start = [], 0
    for token in _TOKEN.finditer(selector):
        if token.lastgroup == "frame":
            parts.append(selector[start : token.start()].strip())
            start = token.end()
    parts.append(selector[start:].strip())
    if not all(parts):
        raise ValueError(f"needs a selector on each side of {FRAME}" if len(parts) > 1 else "is empty")
    return parts


def css_selector(value: str) -> str:
    """Return a selector that dom.js can look for. Raises ValueError, which says why it cannot."""
    page_path(value)
    return value


def inner_selector(value: str) -> str:
    """Return a selector of what is in an element. Raises ValueError if it leads into a frame."""
    if len(frame_parts(value)) > 1:
        raise ValueError(f"{FRAME} has no place here: it is looked for in the answer")
    return value


def step_selector(value: str) -> str:
    """Return a selector of a step. Raises ValueError for what is no CSS; Playwright's other forms are its to judge."""
    for part in frame_parts(value):
        try:
            _css(part)
        except PlaywrightOnly:
            continue
    return value


def _css(selector: str) -> Css:
    if _ENGINE.match(selector):
        raise PlaywrightOnly(f"{selector!r} is a selector of Playwright's that works in steps only: needs CSS here")
    chains: list[list[tuple[str, str]]] = [[]]
    compound, before = "", ""
    for kind, text in _pieces(selector):
        if kind == "compound":
            compound += text
            continue
        if kind == "chain":
            raise PlaywrightOnly(f"{selector!r}: >> is Playwright's and works in steps only; a frame is >>> here")
        if not compound:
            raise ValueError(f"{selector!r}: there is nothing before {text.strip()!r}")
        chains[-1].insert(0, (compound, before))
        compound, before = "", text.strip() or " "
        if kind == "comma":
            chains.append([])
            before = ""
    if not compound:
        raise ValueError(f"{selector!r}: there is nothing after {before.strip() or ','!r}")
    chains[-1].insert(0, (compound, before))
    return {"css": selector, "chains": chains}


def _pieces(selector: str) -> Iterator[tuple[str, str]]:
    """Yield the pieces of a selector, in order, with what they are: compound, comma, combinator or chain (>>).

    What stands in brackets is of a compound selector. Raises ValueError where brackets or quotes do not fit.
    """
    opened = ""
    for token in _TOKEN.finditer(selector):
        kind, text = token.lastgroup or "", token.group()
        if kind == "quote":
            raise ValueError(f"{selector!r}: a quote is not closed")
        if kind == "pseudo":
            _check_pseudo(text)
        if kind == "close" and opened[-1:] != _CLOSES[text]:
            raise ValueError(f"{selector!r}: there is a {text} with nothing that it closes")
        opened = opened + text if kind == "open" else opened[:-1] if kind == "close" else opened
        yield (kind if kind in _BETWEEN and not opened else "compound"), text
    if opened:
        raise ValueError(f"{selector!r}: a {opened[-1]} is not closed")


def _check_pseudo(name: str) -> None:
    if name in _PLAYWRIGHT_PSEUDO:
        raise PlaywrightOnly(f"{name}() is Playwright's and works in steps only: needs CSS here")
    if name in _JQUERY_PSEUDO:
        raise ValueError(f"{name} is jQuery's: no browser knows it, nor does Playwright")

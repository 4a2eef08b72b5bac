"""An answer's text as the page shows it, and whether it is the one that was read from the traffic."""

from __future__ import annotations

import re
from importlib import import_module

# What rendering may change: a code block's fence, and the numbers of a list, which Markdown lets begin anywhere.
_FORM = re.compile(r"^\s*(?:[`~]{3,}.*|\d{1,9}[.)]\s)", re.MULTILINE)
_NO_LETTERS = re.compile(r"[\W_]+")


def load_markdown() -> None:
    """Import what makes Markdown of HTML: it costs 100 ms, and most answers never need it."""
    import_module("browser.capture.markdown")


def as_text(shown: str, *, html: bool) -> str:
    """Return an answer's text of what the page shows: the Markdown of its HTML, or as it is."""
    if not html:
        return shown
    from browser.capture.markdown import from_html  # noqa: PLC0415 - as above

    return from_html(shown)


def settled_text(steady: str, before: str) -> str:
    """Return the part of steady Markdown whose links will not change, given the steady Markdown of the look before."""
    from browser.capture.markdown_references import settled  # noqa: PLC0415 - as above

    return settled(steady, before)


def steady_text(html: str, hold_from: re.Pattern[str] | None = None) -> str:
    """Return the Markdown of what will not change in the HTML of an answer that is still being written.

    Nothing that comes after a match of `hold_from` is in it.
    """
    from browser.capture.markdown import steady_from_html  # noqa: PLC0415 - as above

    return steady_from_html(html, hold_from)


def continuing(passed_on: str, markdown: str, *, complete: bool) -> str | None:
    """Return an answer's Markdown in a form that continues what was passed on; None if none does."""
    from browser.capture.markdown_steady import continuing as continuing_form  # noqa: PLC0415 - as above

    return continuing_form(passed_on, markdown, complete=complete)


def agree(read: str, shown: str, how: str) -> bool:
    """Tell whether two texts are of the same answer. `how` is the site file's capture.dom.read.

    Of a page's bare text every character counts, but for space around it; of rendered text, all but space; of
    Markdown, letters and digits.
    """
    return _essence(read, how) == _essence(shown, how)


def _essence(text: str, how: str) -> str:
    if how == "markdown":
        return _NO_LETTERS.sub("", _FORM.sub("", text))
    if how == "rendered":
        return "".join(text.split())
    return "\n".join(text.splitlines()).strip()

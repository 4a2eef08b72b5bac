"""Whether an answer as it was read from the traffic is the one that the page shows."""

from __future__ import annotations

import re

# What a renderer may give another form: a code block's fence, the number of a list's item.
_FORM = re.compile(r"^\s*(?:[`~]{3,}.*|\d{1,9}[.)]\s)", re.MULTILINE)
_NO_LETTERS = re.compile(r"[\W_]+")


def agree(read: str, shown: str, how: str) -> bool:
    """Compare two texts. `how` is capture.dom.read.

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

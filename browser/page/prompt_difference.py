"""Where a prompt differs from what became of it on the page: a position and kinds of characters, never the text."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import zip_longest

NO_BREAK_SPACE = "\u00a0"
NOTHING = "nothing"
_CONTROLS = {"\n": "a line break", "\t": "a tab", "\0": "a NUL"}
# Of these the code point is named: it tells nothing of what the prompt says.
_WITHOUT_CONTENT = ("Zs", "Zl", "Zp", "Cc", "Cf")
_KINDS = {
    "L": "a letter",
    "M": "a combining mark",
    "N": "a digit",
    "P": "a punctuation mark",
    "S": "a symbol",
    "Co": "a character for private use",
    "Cn": "a code point without a character",
    "Cs": "half of a surrogate pair",
}


@dataclass(frozen=True)
class Difference:
    """The first difference. `at` counts the prompt's characters (code points) from 1, `of` is how many it has."""

    at: int
    of: int
    wanted: str
    held: str

    def __str__(self) -> str:
        """Return it as a part of a sentence about the input."""
        return self.told_of("the input")

    def told_of(self, place: str) -> str:
        """Return it as a part of a sentence about the place that holds the other text."""
        if self.wanted == NOTHING:
            return f"{place} goes on after the prompt's {self.of} characters, with {self.held}"
        held = "another one" if self.held == self.wanted else self.held
        there = "ends before it" if held == NOTHING else f"has {held} there"
        return f"character {self.at} of {self.of} is {self.wanted}, and {place} {there}"


def difference(wanted: str, held: str, *, rich: bool) -> Difference | None:
    """Return where the text `held` differs first from the prompt `wanted`, or None.

    `rich`: it is what a contenteditable holds. There a browser writes a space that HTML would drop as a no-break space.
    """
    if wanted == held:
        return None
    for index, (expected, found) in enumerate(zip_longest(wanted, held)):
        if expected == found or (rich and expected == " " and found == NO_BREAK_SPACE):
            continue
        return Difference(index + 1, len(wanted), kind_of(expected), kind_of(found))
    return None


def kind_of(character: str | None) -> str:
    """Return what kind of character it is, in words with an article; `nothing` for None."""
    if character is None:
        return NOTHING
    if character in _CONTROLS:
        return _CONTROLS[character]
    category = unicodedata.category(character)
    if category in _WITHOUT_CONTENT:
        name = unicodedata.name(character, "control character").lower()
        return f"a {name} (U+{ord(character):04X})"
    if unicodedata.bidirectional(character) in ("R", "AL"):
        return "a right-to-left letter"
    return _KINDS.get(category) or _KINDS[category[0]]

"""What a reader finds in the frames of an answer, and the answer's text so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

_HIGH_HALVES = ("\ud800", "\udbff")


@dataclass(frozen=True)
class Text:
    """The next part of the answer."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """The next part of what the page shows of its reasoning, which is apart from the answer."""

    text: str


@dataclass(frozen=True)
class Progress:
    """The answer goes on, but nothing of it can be passed on yet."""


@dataclass(frozen=True)
class Done:
    """The answer is complete."""


@dataclass(frozen=True)
class Refused:
    """The site refused the prompt: by an HTTP status, by a message, or both.

    The message is only matched against the site file's refusals. It is never shown to a caller: it may hold anything.
    """

    status: int | None
    message: str


@dataclass(frozen=True)
class BrokenOff:
    """The site ended the answer before its end."""


@dataclass(frozen=True)
class Lost:
    """What came does not continue what was passed on, or does not fit the document that changes are made to.

    Findings of either kind are equal: what follows is the same.
    """

    fits_document: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class LoggedOut:
    """The site told the page that its session is over."""


Finding = Text | Reasoning | Progress | Done | Refused | BrokenOff | LoggedOut | Lost


def as_reasoning(found: Sequence[Finding]) -> list[Finding]:
    """Return what a transcript of the reasoning found. Where it cannot go on, nothing: no answer fails for that."""
    return [Reasoning(finding.text) for finding in found if isinstance(finding, Text)]


class Transcript:
    """The answer so far; turns whole texts into what is new in them.

    An answer may come as several messages, each under a name: a blank line goes between them. The name None stands
    for the message whose text came last. A site may cut its text between the halves of a surrogate pair: the first
    half is held back until the other one comes. A half that stays alone becomes U+FFFD, or nothing at a text's end.
    """

    def __init__(self, passed_on: str = "") -> None:
        self.passed_on = passed_on
        self._message: str | None = None
        self._message_at = 0
        self._half = ""
        self._earlier: dict[str, str] = {}

    def add(self, text: str, message: str | None = None) -> list[Finding]:
        """Append text to a message. Lost if a later message has begun: what was passed on cannot be changed."""
        if not text:
            return []
        if message in self._earlier:
            return [Lost()]
        if message is not None and message != self._message:
            if self._message is not None:
                self._earlier[self._message] = self.passed_on[self._message_at :]
            between = "\n\n" if self.passed_on else ""
            self._message, self._message_at = message, len(self.passed_on) + len(between)
            text = between + text
            self._half = ""
        text, self._half = whole_characters(self._half + text)
        self.passed_on += text
        return [Text(text)] if text else []

    def whole(self, text: str, message: str | None = None) -> list[Finding]:
        """Append what is new in the whole text of a message so far. Lost if it does not begin as what was passed on."""
        text, half = whole_characters(text)
        is_current = message is None or message == self._message
        known = self.passed_on[self._message_at :] if is_current else self._earlier.get(message or "", "")
        if not text.startswith(known):
            return [Lost()]
        if is_current:
            self._half = ""  # the whole text holds it again
        return self.add(text[len(known) :] + half, message)


def whole_characters(text: str) -> tuple[str, str]:
    """Return the text with its surrogate pairs joined and no lone half, and a first half that stood at its end."""
    if text.isascii():
        return text, ""
    half = text[-1] if _HIGH_HALVES[0] <= text[-1] <= _HIGH_HALVES[1] else ""
    units = text[: len(text) - len(half)].encode("utf-16-le", "surrogatepass")
    return units.decode("utf-16-le", "replace"), half

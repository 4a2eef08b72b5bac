"""How an answer was read, event by event: what the site checker shows and keeps.

The readers report to a trace; serving has none. Nothing else frames a body or evaluates a site file's expressions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from browser.capture.frames import Frame

Skipped = Literal["prefix", "before_start", "not_same", "not_begun"]
"""Why an event did not count: it lacks the prefix, it came before `start` held, `same` found something else in it
than in the answer's first event, or it is of a message that `begins` did not name (then only its text does not)."""

Unread = Literal["other_stream", "refusal", "read_from_page"]
"""Why a frame of the page's traffic held no events: its stream is not the answer's, it is the body of an HTTP error,
or the answer is read from the page itself."""

Problem = Literal["patch_mismatch", "contradiction"]
"""Why the answer cannot be read on: its changes do not fit the document, or its text does not continue what was
passed on."""


@dataclass
class EventTrace:
    """How the network reader read one event, filled in while it does.

    `found` holds what each expression found that was evaluated and found something: null, false and what is empty
    are nothing. `end_data` is there if the event is the one that the site file gives.
    """

    stream: int | None
    event: str | None
    data: Any
    found: dict[str, Any] = field(default_factory=dict)
    skipped: Skipped | None = None
    problem: Problem | None = None


class Trace(Protocol):
    """Is told what comes and how it is read, in order."""

    def frame(self, frame: Frame) -> None:
        """Note a frame, before it is read."""

    def event(self, event: EventTrace) -> None:
        """Note an event that the network reader has read."""

    def unread(self, frame: Frame, why: Unread) -> None:
        """Note a frame of the page's traffic in which no events were looked for."""

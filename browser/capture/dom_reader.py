"""From what the page shows to an answer's text, as a site file's `capture.dom` describes it."""

from __future__ import annotations

import re
import time

from browser.capture.compare import as_text, continuing, load_markdown, settled_text, steady_text
from browser.capture.findings import Done, Finding, Lost, Progress, Refused, Transcript, as_reasoning
from browser.capture.frames import Frame, FrameKind

HTML_REST = 4
"""How long no Markdown is made after it was, as a multiple of the time that this took: an answer that is being
written is converted again and again, which would otherwise cost a core."""


class DomReader:
    """Reads an answer from what is seen of it on the page.

    Text that was passed on and then changes is forgiven if the answer's last form continues it again. With
    `html` frames hold HTML, of which Markdown is made: of an answer that is still being written only what cannot
    become something else is passed on (`markdown_steady`). Without `stream` all text is held back until the answer
    is complete, and what comes from the first match of `hold_from` on is.
    """

    def __init__(
        self,
        transcript: Transcript,
        *,
        stream: bool = True,
        hold_from: str | None = None,
        html: bool = False,
        reasoning: Transcript | None = None,
    ) -> None:
        self._transcript = transcript
        self._reasoning = reasoning or Transcript()
        self._stream = stream
        self._hold_from = re.compile(hold_from) if hold_from else None
        self._html = html
        if html:
            load_markdown()  # before the time that a conversion takes decides when the next one comes
        self._shown = ""
        self._steady = ""
        self._rest_until = 0.0

    def read(self, frame: Frame) -> list[Finding]:
        """Return what is found in a frame, in order."""
        match frame.kind:
            case FrameKind.DOM_ADD:
                return self._show(self._shown + frame.text)
            case FrameKind.DOM_SET:
                return self._show(frame.text)
            case FrameKind.DOM_REASONING:
                return as_reasoning(self._reasoning.whole(frame.text)) or [Progress()]
            case FrameKind.DOM_ERROR:
                return [Refused(None, frame.text)]
            case FrameKind.DOM_DONE:
                text = as_text(self._shown, html=self._html)
                rest = self._transcript.whole(self._continued(text, complete=True))
                return rest if Lost() in rest else [*rest, Done()]
            case _:
                return []

    def _show(self, shown: str) -> list[Finding]:
        self._shown = shown
        text = self._steady_text() if self._stream else None
        if text is not None and text.startswith(self._transcript.passed_on):
            return self._transcript.whole(text) or [Progress()]
        return [Progress()]

    def _continued(self, text: str, *, complete: bool) -> str:
        """Return Markdown in the form that continues what was passed on, if there is one."""
        return (continuing(self._transcript.passed_on, text, complete=complete) or text) if self._html else text

    def _steady_text(self) -> str | None:
        """Return the text so far that will not change; None where it is too early to convert the HTML again."""
        if not self._html:
            held = self._hold_from and self._hold_from.search(self._shown)
            return self._shown[: held.start()] if held else self._shown
        began = time.monotonic()
        if began < self._rest_until:
            return None
        steady, before = steady_text(self._shown, self._hold_from), self._steady
        self._steady = steady
        text = self._continued(settled_text(steady, before), complete=False)
        ended = time.monotonic()
        self._rest_until = ended + HTML_REST * (ended - began)
        return text

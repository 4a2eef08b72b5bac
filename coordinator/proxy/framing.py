"""Where server-sent events end, so that a stream is only ever cut between two of them.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

from typing import Final

_ENDS: Final = (b"\n\n", b"\r\n\r\n")
_LARGEST_HELD_BYTES: Final = 1024 * 1024


class EventFraming:
    """Passes whole events on and holds back the beginning of one until its end has come.

    What has been passed on can always be followed by another event. The bytes and their order are
    unchanged. An event above 1 MiB is passed on in parts.
    """

    def __init__(self) -> None:
        self._held = b""
        self._inside = False

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes in; return those that may be sent now."""
        # Nearly every chunk of a child ends with an event: it passes without a copy.
        if not self._held and chunk.endswith(_ENDS):
            self._inside = False
            return chunk
        data = self._held + chunk
        cut = max(data.rfind(end) + len(end) if end in data else 0 for end in _ENDS)
        if cut:
            self._inside = False
        elif len(data) > _LARGEST_HELD_BYTES:
            cut, self._inside = len(data), True
        self._held = data[cut:]
        return data[:cut]

    def rest(self) -> bytes:
        """Return what is held back, at the orderly end of the stream."""
        held, self._held = self._held, b""
        return held

    def before_event(self) -> bytes:
        """Return what must be sent before an event of our own, in place of what is held back."""
        return b"\n\n" if self._inside else b""

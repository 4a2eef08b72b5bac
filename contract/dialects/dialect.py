"""What both programs know of an API dialect: its route, where its conversation stands, and how it writes errors.

How a request of a dialect is parsed, and how its answer is written, is the child's business (`api_utils/dialects`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from contract.api_error import ApiError, sse

DONE: Final = sse(b"[DONE]")
"""The last event of a complete stream, in the dialects that have it."""

END_COMMENT: Final = b": end\n\n"
"""What a child writes after the last event of a complete stream where the dialect has no `[DONE]`; readers skip it.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

COMPLETE: Final = frozenset({DONE.rstrip(), END_COMMENT.rstrip()})
"""The last line of a stream whose answer is complete."""


@dataclass(frozen=True)
class Dialect:
    """One API dialect; this one writes errors in OpenAI's form.

    `conversation` is the parameter that holds the conversation: a list with at least one entry, or with `may_be_text`
    a text.
    """

    path: str
    conversation: str
    may_be_text: bool = False

    def error_body(self, error: ApiError) -> bytes:
        """Return the error as a JSON body."""
        return error.body()

    def error_event(self, error: ApiError) -> bytes:
        """Return the error as the last server-sent event of a stream; `is_error_event` and `code_of` can read it."""
        return error.event()

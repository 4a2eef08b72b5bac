"""How many tokens a prompt and an answer have: an estimate, because a chat page tells none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

BYTES_A_TOKEN: Final = 4
"""Of UTF-8. A rule of thumb, good to about a third for English prose: every tokenizer counts differently."""

USAGE_HEADER: Final = "x-usage"
ESTIMATED: Final = "estimated"


@dataclass(frozen=True)
class Usage:
    """What one request took, in estimated tokens. Images count nothing."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    """Of the completion's."""

    @classmethod
    def of(cls, prompt_bytes: int, answer_bytes: int, reasoning_bytes: int = 0) -> Usage:
        """Estimate for what was typed into the page and what came back, as UTF-8: a token for each 4 bytes begun."""
        prompt, answer, reasoning = (
            -(-size // BYTES_A_TOKEN) for size in (prompt_bytes, answer_bytes, reasoning_bytes)
        )
        return cls(prompt, answer + reasoning, reasoning)

    def to_openai(self) -> dict[str, Any]:
        """Return it in OpenAI's form: https://platform.openai.com/docs/api-reference/chat/object."""
        written: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
        if self.reasoning_tokens:
            written["completion_tokens_details"] = {"reasoning_tokens": self.reasoning_tokens}
        return written

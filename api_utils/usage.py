"""How many tokens a prompt and an answer have: an estimate, because a chat page tells none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BYTES_A_TOKEN: Final = 4
"""Of UTF-8. A rule of thumb, good to about a third for English prose: every tokenizer counts differently."""

USAGE_HEADER: Final = "x-usage"
ESTIMATED: Final = "estimated"


@dataclass(frozen=True)
class Usage:
    """What one request took, in estimated tokens. Images count nothing."""

    prompt_tokens: int
    completion_tokens: int

    @classmethod
    def of(cls, prompt_bytes: int, completion_bytes: int) -> Usage:
        """Estimate for what was typed into the page and what came back, as UTF-8: a token for each 4 bytes begun."""
        return cls(-(-prompt_bytes // BYTES_A_TOKEN), -(-completion_bytes // BYTES_A_TOKEN))

    def to_openai(self) -> dict[str, int]:
        """Return it in OpenAI's form: https://platform.openai.com/docs/api-reference/chat/object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

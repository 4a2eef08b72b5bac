"""OpenAI's chat completions: https://platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

from typing import Final

from contract.dialects.dialect import Dialect

CHAT: Final = Dialect("/v1/chat/completions", conversation="messages")

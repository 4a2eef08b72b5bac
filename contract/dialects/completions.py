"""OpenAI's legacy completions: https://platform.openai.com/docs/api-reference/completions."""

from __future__ import annotations

from typing import Final

from contract.dialects.dialect import Dialect

COMPLETIONS: Final = Dialect("/v1/completions", conversation="prompt", may_be_text=True)
